"""The distribution of a function of a random variable.

Twin of `jaxprob/distributions/transformed.py`.
"""

import math
from typing import Any

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution

__all__ = ["Transformed"]


class Transformed(Distribution, torch.distributions.TransformedDistribution):
    """torch's TransformedDistribution under one transform, with both tails and quantiles.

    Args:
      distribution: Distribution of X.
      bijector: A `torch.distributions.Transform`.
    """

    def __init__(self, distribution: Distribution, bijector: torch.distributions.Transform):
        super().__init__(distribution, [bijector], validate_args=False)
        self.distribution, self.bijector = distribution, bijector

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the base."""
        return self.distribution.float_dtype()

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); -inf with a gradient of 0 where f^-1 does not exist."""
        base, event = self.distribution, len(self.distribution.event_shape)
        with torch.no_grad():
            x: Any = self.bijector.inv(value)
            known = x.isfinite()
            known = known.flatten(-event).all(-1) if event else known
            middle = self.bijector(torch.zeros(base.batch_shape + base.event_shape, dtype=x.dtype))
        inside = known[(...,) + (None,) * len(self.event_shape)]
        log_prob = super().log_prob(torch.where(inside, value, middle))
        return torch.where(known, log_prob, -math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(Y <= value)."""
        x = self.bijector.inv(value)
        falls = self.distribution.survival_function(x)
        return torch.where(torch.as_tensor(self.bijector.sign) > 0, self.distribution.cdf(x), falls)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(Y > value)."""
        x = self.bijector.inv(value)
        rises = self.distribution.survival_function(x)
        return torch.where(torch.as_tensor(self.bijector.sign) > 0, rises, self.distribution.cdf(x))

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns f of the base's quantile."""
        rises = torch.as_tensor(self.bijector.sign) > 0
        low, high = torch.where(rises, lower, upper), torch.where(rises, upper, lower)
        return self.bijector(self.distribution.invert(low, high))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        sample = shape[: len(shape) - len(self.batch_shape) - len(self.event_shape)]
        return self.bijector(self.distribution.draw(key, sample))
