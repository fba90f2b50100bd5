"""What families over numbers share: edges of the support, both tails, quantiles by search.

A family gives `_log_density(x)` for x inside the support and `_tails(x)`, both tail probabilities.

Twin of `jaxprob/distributions/univariate.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.quantiles import implicit_root, monotone_quantile, smallest_integer

__all__ = ["Univariate", "draw_uniform"]


def draw_uniform(key: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Returns uniform draws from the open interval (0, 1)."""
    return random.uniform(key, shape, dtype, minval=torch.finfo(dtype).tiny)


class Univariate(Distribution):
    """A family of distributions over numbers."""

    _ends: tuple[float, float] = (-math.inf, math.inf)
    _inside: float = 0.0
    _discrete = False

    def _log_density(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError(f"{type(self).__name__} has no cdf.")

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Ends of the support."""
        like = torch.zeros(self.batch_shape, dtype=self.float_dtype())
        return like + self._ends[0], like + self._ends[1]

    def _kink(self) -> Tensor | None:
        """Where the density has a corner."""
        return None

    def _invalid(self, x: Tensor) -> Tensor:
        """Where x is no event."""
        low, high = self._bounds()
        outside = (x < low) | (x > high) | x.isinf()
        return outside | (x != x.floor()) if self._discrete else outside

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); -inf off the support where validation is off."""
        if self._validate_args:
            self._validate_sample(value)
        x = value.to(torch.promote_types(value.dtype, self.float_dtype()))
        x = x.expand(torch.broadcast_shapes(x.shape, self.batch_shape))
        off = self._invalid(x)
        inside = torch.where(off | x.isnan(), self._bounded_inside(), x)
        log_prob = torch.where(off, -math.inf, self._log_density(inside))
        return torch.where(x.isnan(), math.nan, log_prob)

    def _bounded_inside(self) -> Tensor:
        low, high = self._bounds()
        return torch.full_like(low, self._inside).clamp(low, high)

    def _probability(self, value: Tensor, index: int) -> Tensor:
        x = torch.as_tensor(value, dtype=self.float_dtype())
        x = x.expand(torch.broadcast_shapes(x.shape, self.batch_shape))
        x = x.floor() if self._discrete else x
        low, high = self._bounds()
        below, above = (x < low) | (x == -math.inf), (x >= high) | (x == math.inf)
        probability = self._tails(torch.where(below | above, self._bounded_inside(), x))[index]
        ends = (0.0, 1.0) if index == 0 else (1.0, 0.0)
        return torch.where(below, ends[0], torch.where(above, ends[1], probability))

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value)."""
        return self._probability(value, 0)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        return self._probability(value, 1)

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the quantile, by search unless the family has it in closed form."""
        shape = torch.broadcast_shapes(lower.shape, self.batch_shape)
        lower, upper = lower.expand(shape), upper.expand(shape)
        low, high = (end.expand(shape) for end in self._bounds())
        end = (lower <= 0.0) | (upper <= 0.0)
        x = self._quantile(torch.where(end, 0.5, lower), torch.where(end, 0.5, upper))
        return torch.where(lower <= 0.0, low, torch.where(upper <= 0.0, high, x))

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        low, high = (end.expand(lower.shape) for end in self._bounds())
        if self._discrete:
            return smallest_integer(lower, upper, self.cdf, self.survival_function, low, high)
        x = monotone_quantile(lower, self.cdf, self.survival_function, low, high, upper)
        return implicit_root(x, lower, upper, self)
