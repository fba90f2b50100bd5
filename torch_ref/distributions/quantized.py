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
        difference = torch.where(left, lower - lower_before, upper_before - upper)
        larger = torch.where(left, lower, upper_before)
        limit = 2e-3 if x.dtype == torch.float64 else 0.03
        inner = (lower_before > 0.0) & (upper > 0.0)
        narrow = inner & (difference.detach() < limit * larger.detach())
        safe = torch.where(narrow, 1.0, difference)
        return torch.where(narrow, self._log_integral(narrow, x), safe.log())

    def _log_integral(self, narrow: Tensor, x: Tensor) -> Tensor:
        """Log of the density's integral from x - 1 to x, split at its corner if it has one."""
        kink = self.distribution._kink()
        split = torch.ones_like(x) if kink is None else (kink - (x - 1.0)).clamp(0.0, 1.0)
        terms = []
        for start, width in ((torch.zeros_like(x), split), (split, 1.0 - split)):
            for side in (-1.0, 1.0):
                node = start + width * (0.5 + side / math.sqrt(12))
                at = torch.where(narrow, x - (1.0 - node), self.distribution._bounded_inside())
                terms.append((0.5 * width).log() + self.distribution._log_density(at))
        return torch.stack(terms[: 2 if kink is None else 4]).logsumexp(0)

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
