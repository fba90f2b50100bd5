"""Batch axes reinterpreted as event axes.

Twin of `jaxprob/distributions/independent.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution

__all__ = ["Independent"]


class Independent(Distribution, torch.distributions.Independent):
    """torch's Independent, with marginals and joint tails."""

    @property
    def periodic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the factors lie on a circle."""
        return self.base_dist.periodic

    def marginal(self) -> Distribution:
        """Returns the factors."""
        return self.base_dist.marginal()

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the factors."""
        return self.base_dist.float_dtype()

    def _over_event(self, values: Tensor) -> Tensor:
        return values.flatten(-self.reinterpreted_batch_ndims).prod(-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X_i <= value_i for all i)."""
        return self._over_event(self.base_dist.cdf(value))

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X_i > value_i for all i)."""
        return self._over_event(self.base_dist.survival_function(value))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.base_dist._draw(key, shape)
