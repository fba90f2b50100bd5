"""Twins of `jaxprob.distributions`: torch.distributions with quantiles, right in log space."""

from torch_ref.distributions import constraints
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.independent import Independent
from torch_ref.distributions.mixture import MixtureSameFamily
from torch_ref.distributions.multivariate_normal import MultivariateNormal
from torch_ref.distributions.normal import Normal
from torch_ref.distributions.predictive import Predictive

__all__ = [
    "Distribution",
    "Independent",
    "MixtureSameFamily",
    "MultivariateNormal",
    "Normal",
    "Predictive",
    "constraints",
]
