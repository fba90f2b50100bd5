"""Twins of `jaxprob.objectives`."""

from torch_ref.objectives import em, estimators, likelihood, priors
from torch_ref.objectives.annealing import cyclical_annealing, linear_annealing
from torch_ref.objectives.criteria import beta_nll, pinball_loss
from torch_ref.objectives.likelihood import log_likelihood, negative_log_likelihood
from torch_ref.objectives.maximum_a_posteriori import dropout_precision, map_loss
from torch_ref.objectives.priors import (
    GaussianPrior,
    HierarchicalGaussianPrior,
    LaplacePrior,
    prior_for_l1,
    prior_for_weight_decay,
    weight_decay_for_prior,
)
from torch_ref.objectives.sparse_priors import HorseshoePrior, SpikeAndSlabPrior

__all__ = [
    "GaussianPrior",
    "HierarchicalGaussianPrior",
    "HorseshoePrior",
    "LaplacePrior",
    "SpikeAndSlabPrior",
    "beta_nll",
    "cyclical_annealing",
    "dropout_precision",
    "em",
    "estimators",
    "likelihood",
    "linear_annealing",
    "log_likelihood",
    "map_loss",
    "negative_log_likelihood",
    "pinball_loss",
    "prior_for_l1",
    "prior_for_weight_decay",
    "priors",
    "weight_decay_for_prior",
]
