"""Variational autoencoders.

Twin of `jaxprob/vae/__init__.py`.
"""

from torch_ref.vae.conditional import ConditionalVAE
from torch_ref.vae.conditional_recurrent import ConditionalRecurrentVAE
from torch_ref.vae.conv import ConvVAE
from torch_ref.vae.dense import DenseVAE
from torch_ref.vae.diagnostics import Diagnostics, diagnostics
from torch_ref.vae.discrete import (
    DiscreteVAE,
    DiscreteVAEOutput,
    exact_log_marginal,
    negative_discrete_elbo,
    with_estimator_state,
)
from torch_ref.vae.elbo import negative_elbo
from torch_ref.vae.experts import MixtureOfExperts
from torch_ref.vae.flow_posterior import FlowPosterior, FlowPosteriorVAE
from torch_ref.vae.generate import interpolate, reconstruct, sample, traverse
from torch_ref.vae.hierarchical import HierarchicalPosterior, HierarchicalVAE
from torch_ref.vae.importance import (
    LogMarginal,
    log_marginal,
    negative_ciwae,
    negative_iwae,
    negative_renyi,
)
from torch_ref.vae.impute import impute
from torch_ref.vae.latent_class import (
    FittedClasses,
    LatentClassModel,
    em_step,
    fit_em,
    initial_classes,
    negative_log_marginal,
)
from torch_ref.vae.latents import binarize
from torch_ref.vae.model import VAE, LatentVariableModel, VAEOutput
from torch_ref.vae.priors import MixturePrior, VampPrior
from torch_ref.vae.recurrent import RecurrentVAE
from torch_ref.vae.vector_quantized import (
    VQVAE,
    VQVAEOutput,
    revive_codes,
    update_codebook,
    vq_loss,
)

__all__ = [
    "ConditionalRecurrentVAE",
    "ConditionalVAE",
    "ConvVAE",
    "DenseVAE",
    "Diagnostics",
    "DiscreteVAE",
    "DiscreteVAEOutput",
    "FittedClasses",
    "FlowPosterior",
    "FlowPosteriorVAE",
    "HierarchicalPosterior",
    "HierarchicalVAE",
    "LatentClassModel",
    "LatentVariableModel",
    "LogMarginal",
    "MixtureOfExperts",
    "MixturePrior",
    "RecurrentVAE",
    "VAE",
    "VAEOutput",
    "VQVAE",
    "VQVAEOutput",
    "VampPrior",
    "binarize",
    "diagnostics",
    "em_step",
    "exact_log_marginal",
    "fit_em",
    "impute",
    "initial_classes",
    "interpolate",
    "log_marginal",
    "negative_ciwae",
    "negative_discrete_elbo",
    "negative_elbo",
    "negative_iwae",
    "negative_log_marginal",
    "negative_renyi",
    "reconstruct",
    "revive_codes",
    "sample",
    "traverse",
    "update_codebook",
    "vq_loss",
    "with_estimator_state",
]
