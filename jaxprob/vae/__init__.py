"""Models with latent variables: variational autoencoders, their bounds, and what to do with them."""

from jaxprob.vae.dense import DenseVAE
from jaxprob.vae.diagnostics import Diagnostics, diagnostics
from jaxprob.vae.elbo import negative_elbo
from jaxprob.vae.importance import LogMarginal, log_marginal, negative_iwae
from jaxprob.vae.model import VAE, LatentVariableModel, VAEOutput
from jaxprob.vae.terms import binarize

__all__ = [
    "VAE",
    "DenseVAE",
    "Diagnostics",
    "LatentVariableModel",
    "LogMarginal",
    "VAEOutput",
    "binarize",
    "diagnostics",
    "log_marginal",
    "negative_elbo",
    "negative_iwae",
]
