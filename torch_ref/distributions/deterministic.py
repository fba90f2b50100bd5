"""A point mass, with a tolerance around it.

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
      atol: How far from `loc` a value still counts as equal to it.
      rtol: The same relative to |loc|, added to `atol`.
    """

    arg_constraints = {
        "loc": constraints.real,
        "atol": constraints.nonnegative,
        "rtol": constraints.nonnegative,
    }
    support = constraints.real

    def __init__(self, loc: Tensor, atol: Tensor | float = 0.0, rtol: Tensor | float = 0.0):
        both = [torch.as_tensor(t, dtype=loc.dtype) for t in (atol, rtol)]
        self.loc, self.atol, self.rtol = torch.broadcast_tensors(loc, *both)
        super().__init__(self.loc.shape)

    @property
    def slack(self) -> Tensor:
        """Tolerance of the comparison with `loc`."""
        return self.atol + torch.where(self.rtol > 0.0, self.rtol * self.loc.abs(), 0.0)

    @property
    def atoms(self) -> Tensor:
        """The only possible value."""
        return self.loc

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return self.loc - self.slack, self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns 0 where value is loc within the tolerance, else -inf."""
        close = (value == self.loc) | ((value - self.loc).abs() <= self.slack)
        return torch.where(close, 0.0, -math.inf).to(self.loc.dtype)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        above = (x >= self.loc - self.slack).to(x.dtype)
        return above, 1.0 - above

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the constant, which every draw is, whatever the tolerance."""
        del upper
        return self.loc.expand(torch.broadcast_shapes(lower.shape, self.batch_shape))

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
