"""A continuous distribution rounded up to integers: Y = ceil(X), kept within [low, high].

Twin of `jaxprob/distributions/quantized.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref.distributions.univariate import Univariate

__all__ = ["Quantized"]


class Quantized(Univariate):
    """Integers from a continuous distribution.

    Args:
      distribution: A continuous distribution over numbers.
      low: Smallest integer; None for no end.
      high: Largest integer; None for no end. With both there are a mean and a variance.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]
    support = constraints.real
    _discrete = True

    def __init__(self, distribution: Univariate, low=None, high=None):
        self.distribution = distribution
        like = torch.zeros(distribution.batch_shape, dtype=distribution.float_dtype())
        self.low = like + (-math.inf if low is None else low)
        self.high = like + (math.inf if high is None else high)
        super().__init__(distribution.batch_shape, validate_args=False)

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the parameters."""
        return self.distribution.float_dtype()

    def _bounds(self) -> tuple[Tensor, Tensor]:
        low, high = self.distribution._bounds()
        return torch.maximum(self.low, low.ceil()), torch.minimum(self.high, high.ceil())

    def _log_density(self, x: Tensor) -> Tensor:
        before = x - 1.0
        low, high = x <= self.low, x >= self.high
        lower = torch.where(high, 1.0, self.distribution.cdf(x))
        upper = torch.where(high, 0.0, self.distribution.survival_function(x))
        lower_before = torch.where(low, 0.0, self.distribution.cdf(before))
        upper_before = torch.where(low, 1.0, self.distribution.survival_function(before))
        left = lower < upper_before
        return torch.where(left, lower - lower_before, upper_before - upper).log()

    def _levels(self) -> tuple[Tensor, Tensor]:
        """All integers and their probabilities, in front of the batch."""
        low, high = int(self.low.min()), int(self.high.max())
        k = torch.arange(low, high + 1, dtype=self.low.dtype)
        k = k.reshape(-1, *[1] * self.low.ndim)
        return k, self._log_density(k).exp()

    @property
    def mean(self) -> Tensor:
        """sum_k k p(k)."""
        k, p = self._levels()
        return (k * p).sum(0)

    @property
    def variance(self) -> Tensor:
        """sum_k (k - mean)^2 p(k)."""
        k, p = self._levels()
        return ((k - self.mean).square() * p).sum(0)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.distribution.cdf(x), self.distribution.survival_function(x)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        draws = self.distribution._draw(key, shape).ceil()
        return torch.minimum(torch.maximum(draws, self.low), self.high)
