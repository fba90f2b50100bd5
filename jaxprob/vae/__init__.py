"""Variational autoencoders: models with latent variables, bounds on log p(x), and their use."""

from jaxprob.vae.conditional import ConditionalVAE
from jaxprob.vae.conditional_recurrent import ConditionalRecurrentVAE
from jaxprob.vae.conv import ConvVAE
from jaxprob.vae.dense import DenseVAE
from jaxprob.vae.diagnostics import Diagnostics, diagnostics
from jaxprob.vae.discrete import (
    DiscreteVAE,
    DiscreteVAEOutput,
    exact_log_marginal,
    negative_discrete_elbo,
    with_estimator_state,
)
from jaxprob.vae.elbo import negative_elbo
from jaxprob.vae.experts import MixtureOfExperts
from jaxprob.vae.flow_posterior import FlowPosterior, FlowPosteriorVAE
from jaxprob.vae.generate import interpolate, reconstruct, sample, traverse
from jaxprob.vae.hierarchical import HierarchicalPosterior, HierarchicalVAE
from jaxprob.vae.importance import (
    LogMarginal,
    log_marginal,
    negative_ciwae,
    negative_iwae,
    negative_renyi,
)
from jaxprob.vae.impute import impute
from jaxprob.vae.latent_class import (
    FittedClasses,
    LatentClassModel,
    em_step,
    fit_em,
    initial_classes,
    negative_log_marginal,
)
from jaxprob.vae.latents import binarize
from jaxprob.vae.model import VAE, LatentVariableModel, VAEOutput
from jaxprob.vae.priors import MixturePrior, VampPrior
from jaxprob.vae.recurrent import RecurrentVAE
from jaxprob.vae.vector_quantized import VQVAE, VQVAEOutput, revive_codes, update_codebook, vq_loss

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
