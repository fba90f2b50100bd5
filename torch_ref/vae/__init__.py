"""Twins of `jaxprob.vae`."""

from torch_ref.vae.discrete import (
    DiscreteVAE,
    DiscreteVAEOutput,
    exact_log_marginal,
    negative_discrete_elbo,
    with_estimator_state,
)
from torch_ref.vae.experts import MixtureOfExperts
from torch_ref.vae.latent_class import (
    FittedClasses,
    LatentClassModel,
    em_step,
    fit_em,
    initial_classes,
    negative_log_marginal,
)
from torch_ref.vae.vector_quantized import (
    VQVAE,
    VQVAEOutput,
    revive_codes,
    update_codebook,
    vq_loss,
)

__all__ = [
    "VQVAE",
    "DiscreteVAE",
    "DiscreteVAEOutput",
    "FittedClasses",
    "LatentClassModel",
    "MixtureOfExperts",
    "VQVAEOutput",
    "em_step",
    "exact_log_marginal",
    "fit_em",
    "initial_classes",
    "negative_discrete_elbo",
    "negative_log_marginal",
    "revive_codes",
    "update_codebook",
    "vq_loss",
    "with_estimator_state",
]
