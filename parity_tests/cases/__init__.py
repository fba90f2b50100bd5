"""The rows of the parity proofs, one file a family.

A new model is one row here: it then gets values, gradients and training runs in both dtypes.
"""

from parity_tests.cases import (
    bayes,
    distributions,
    estimators,
    flows,
    heads,
    laplace,
    metrics,
    nn,
    objectives,
    point_estimates,
    supervised,
    vae,
    vae_discrete,
    vae_missing,
    vae_recurrent,
    vae_structured,
)

MODELS = [
    *bayes.MODELS,
    *flows.MODELS,
    *point_estimates.MODELS,
    *supervised.MODELS,
    *vae.MODELS,
    *vae_discrete.MODELS,
    *vae_recurrent.MODELS,
    *vae_structured.MODELS,
]
FUNCTIONS = [
    *distributions.FUNCTIONS,
    *estimators.FUNCTIONS,
    *flows.FUNCTIONS,
    *heads.FUNCTIONS,
    *laplace.FUNCTIONS,
    *metrics.FUNCTIONS,
    *nn.FUNCTIONS,
    *objectives.FUNCTIONS,
    *point_estimates.FUNCTIONS,
    *vae.FUNCTIONS,
    *vae_discrete.FUNCTIONS,
    *vae_missing.FUNCTIONS,
    *vae_structured.FUNCTIONS,
]
