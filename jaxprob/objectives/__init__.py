"""Objectives: losses as likelihoods, regularisers as priors."""

from jaxprob.objectives.likelihood import log_likelihood, negative_log_likelihood
from jaxprob.objectives.priors import GaussianPrior

__all__ = ["GaussianPrior", "log_likelihood", "negative_log_likelihood"]
