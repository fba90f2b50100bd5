"""Variational autoencoders: models with latent variables, bounds on log p(x), and their use."""

from jaxprob.vae.conv import ConvVAE
from jaxprob.vae.dense import DenseVAE
from jaxprob.vae.diagnostics import Diagnostics, diagnostics
from jaxprob.vae.elbo import negative_elbo
from jaxprob.vae.generate import interpolate, reconstruct, sample, traverse
from jaxprob.vae.importance import LogMarginal, log_marginal, negative_iwae
from jaxprob.vae.model import VAE, LatentVariableModel, VAEOutput
from jaxprob.vae.terms import binarize

__all__ = [
    "VAE",
    "ConvVAE",
    "DenseVAE",
    "Diagnostics",
    "LatentVariableModel",
    "LogMarginal",
    "VAEOutput",
    "binarize",
    "diagnostics",
    "interpolate",
    "log_marginal",
    "negative_elbo",
    "negative_iwae",
    "reconstruct",
    "sample",
    "traverse",
]
