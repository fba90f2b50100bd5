"""Distributions: distrax's interface, checked, safe under `vmap` and `jit`, with quantiles."""

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.independent import Independent
from jaxprob.distributions.mixture import MixtureSameFamily
from jaxprob.distributions.multivariate_normal import MultivariateNormal
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.predictive import Predictive
from jaxprob.distributions.validation import checked, unchecked

__all__ = [
    "Distribution",
    "Independent",
    "MixtureSameFamily",
    "MultivariateNormal",
    "Normal",
    "Predictive",
    "checked",
    "constraints",
    "unchecked",
]
