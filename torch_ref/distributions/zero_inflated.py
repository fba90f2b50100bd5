"""Counts with extra zeros.

Twin of `jaxprob/distributions/zero_inflated.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.special import softplus
from torch_ref.distributions.summation import entropy_of_counts
from torch_ref.distributions.univariate import Univariate

__all__ = ["ZeroInflated"]


class ZeroInflated(Univariate):
    """A distribution of counts that is 0 more often than its base.

    Args:
      base: A distribution of counts.
      logits: Log-odds of an extra zero, of the base's batch shape.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.nonnegative_integer
    _ends = (0.0, math.inf)
    _discrete = True

    def __init__(self, base: Univariate, logits: Tensor):
        self.base, self.logits = base, logits
        super().__init__(base.batch_shape, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        kept = -softplus(self.logits) + self.base._log_density(x)
        return torch.where(x == 0.0, torch.logaddexp(-softplus(-self.logits), kept), kept)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        upper = (-self.logits).sigmoid() * self.base.survival_function(x)
        return 1.0 - upper, upper

    @property
    def mean(self) -> Tensor:
        """(1 - g) m."""
        return (-self.logits).sigmoid() * self.base.mean

    @property
    def variance(self) -> Tensor:
        """(1 - g) (v + g m^2)."""
        spread = self.base.variance + self.logits.sigmoid() * self.base.mean.square()
        return (-self.logits).sigmoid() * spread

    @property
    def mode(self) -> Tensor:
        """0 or the mode of the base, whichever is likelier."""
        mode = self.base.mode
        likelier = self._log_density(mode) > self._log_density(torch.zeros_like(mode))
        return torch.where(likelier, mode, 0.0)

    def entropy(self) -> Tensor:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        return entropy_of_counts(self)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        zero_key, base_key = random.split(key).unbind(-2)
        extra = random.bernoulli(zero_key, self.logits.detach().sigmoid(), shape)
        return torch.where(extra, 0, self.base._draw(base_key, shape))
