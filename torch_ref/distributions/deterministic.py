"""A point mass.

Twin of `jaxprob/distributions/deterministic.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref.distributions.univariate import Univariate

__all__ = ["Deterministic"]


class Deterministic(Univariate):
    """The distribution of a constant.

    Args:
      loc: The constant.
    """

    arg_constraints = {"loc": constraints.real}
    support = constraints.real

    def __init__(self, loc: Tensor):
        self.loc = loc
        super().__init__(loc.shape)

    @property
    def atoms(self) -> Tensor:
        """The only possible value."""
        return self.loc

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.loc, self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns 0 where value is loc, else -inf."""
        return torch.where(value == self.loc, 0.0, -math.inf).to(self.loc.dtype)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        above = (x >= self.loc).to(x.dtype)
        return above, 1.0 - above

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        return self.loc.expand(lower.shape)

    @property
    def mean(self) -> Tensor:
        """The constant."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The constant."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """0."""
        return torch.zeros_like(self.loc)

    def entropy(self) -> Tensor:
        """Returns 0."""
        return torch.zeros_like(self.loc)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.loc.expand(shape)
