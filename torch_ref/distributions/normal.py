"""The normal distribution: log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2.

Twin of `jaxprob/distributions/normal.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import ndtr
from torch_ref.distributions.univariate import Univariate

__all__ = ["Normal"]


class Normal(Univariate, torch.distributions.Normal):
    """torch's normal, with the upper tail computed without cancellation."""

    def _log_density(self, x: Tensor) -> Tensor:
        # standardised first, so that a huge scale cannot overflow
        z = (x - self.loc) / self.scale
        return -0.5 * z.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.loc) / self.scale
        return ndtr(z), ndtr(-z)

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X <= value), accurate in both tails."""
        z = (value - self.loc) / self.scale
        above = z > 0.0
        upper = torch.log1p(-ndtr(-torch.where(above, z, 1.0)))
        return torch.where(above, upper, torch.special.log_ndtr(torch.where(above, -1.0, z)))

    def from_standard_normal(self, z: Tensor) -> Tensor:
        """Returns loc + scale z."""
        return self.loc + self.scale * z

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        small = lower < 0.5
        tail = torch.special.ndtri(torch.where(small, lower, upper))
        return self.loc + self.scale * torch.where(small, tail, -tail)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc + self.scale * random.normal(key, shape, self.loc.dtype)
