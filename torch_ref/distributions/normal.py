"""The normal distribution: log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2.

Twin of `jaxprob/distributions/normal.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, ndtr

__all__ = ["Normal"]


class Normal(Distribution, torch.distributions.Normal):
    """torch's normal, with the upper tail computed without cancellation."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); standardised first, so that a huge scale cannot overflow."""
        z = (value - self.loc) / self.scale
        return -0.5 * z.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value)."""
        return ndtr((value - self.loc) / self.scale)

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X <= value), accurate in both tails."""
        z = (value - self.loc) / self.scale
        upper = torch.log1p(-ndtr(-z.abs()))
        return torch.where(z > 0, upper, torch.special.log_ndtr(z.clamp(max=0.0)))

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        return ndtr((self.loc - value) / self.scale)

    def icdf(self, value: Tensor) -> Tensor:
        """Returns loc + scale * Phi^-1(value)."""
        return self.loc + self.scale * torch.special.ndtri(torch.as_tensor(value).to(self.loc))
