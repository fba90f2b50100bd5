"""The uniform distribution over a closed interval.

Twin of `jaxprob/distributions/uniform.py`.
"""

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.univariate import Univariate

__all__ = ["Uniform"]


class Uniform(Univariate, torch.distributions.Uniform):
    """torch's uniform, with both ends included."""

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.low, self.high

    @property
    def mode(self) -> Tensor:
        """The middle; every point is a mode."""
        return self.mean

    def _log_density(self, x: Tensor) -> Tensor:
        return -(self.high - self.low).log().expand(x.shape)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        size = self.high - self.low
        return (x - self.low) / size, (self.high - x) / size

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        size = self.high - self.low
        return torch.where(lower < 0.5, self.low + size * lower, self.high - size * upper)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.low + (self.high - self.low) * random.uniform(key, shape, self.low.dtype)
