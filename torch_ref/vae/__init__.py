"""Variational autoencoders.

Twin of `jaxprob/vae/__init__.py`.
"""

from torch_ref.vae.conv import ConvVAE
from torch_ref.vae.dense import DenseVAE
from torch_ref.vae.diagnostics import Diagnostics, diagnostics
from torch_ref.vae.elbo import negative_elbo
from torch_ref.vae.generate import interpolate, reconstruct, sample, traverse
from torch_ref.vae.importance import LogMarginal, log_marginal, negative_iwae
from torch_ref.vae.model import VAE, LatentVariableModel, VAEOutput
from torch_ref.vae.terms import binarize

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
