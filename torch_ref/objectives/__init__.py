"""Twins of `jaxprob.objectives`."""

from torch_ref.objectives.likelihood import log_likelihood, negative_log_likelihood
from torch_ref.objectives.priors import GaussianPrior

__all__ = ["GaussianPrior", "log_likelihood", "negative_log_likelihood"]
