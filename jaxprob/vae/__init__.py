"""Latent-variable models: discrete latents by enumeration, estimators or quantisation."""

from jaxprob.vae.discrete import (
    DiscreteVAE,
    DiscreteVAEOutput,
    exact_log_marginal,
    negative_discrete_elbo,
    with_estimator_state,
)
from jaxprob.vae.experts import MixtureOfExperts
from jaxprob.vae.latent_class import (
    FittedClasses,
    LatentClassModel,
    em_step,
    fit_em,
    initial_classes,
    negative_log_marginal,
)
from jaxprob.vae.vector_quantized import (
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
