"""Families over the positive numbers with a cdf in closed form.

Twin of `jaxprob/distributions/positive.py`; torch's moments and entropies serve.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.base import ndtr
from torch_ref.distributions.special import log_probabilities
from torch_ref.distributions.univariate import Univariate, draw_uniform

__all__ = ["Exponential", "HalfNormal", "LogNormal", "Weibull"]


class Exponential(Univariate, torch.distributions.Exponential):
    """torch's exponential, which gives no number to negative values."""

    _ends = (0.0, math.inf)
    _inside = 1.0

    def _log_density(self, x: Tensor) -> Tensor:
        return self.rate.log() - self.rate * x

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.expm1(-self.rate * x), (-self.rate * x).exp()

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        return -log_probabilities(lower, upper)[1] / self.rate

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return random.exponential(key, shape, self.rate.dtype) / self.rate


class Weibull(Univariate, torch.distributions.Weibull):
    """torch's Weibull, from log x instead of x^k.

    Args:
      scale: Scale.
      concentration: Shape.
    """

    _ends = (0.0, math.inf)
    _inside = 1.0

    @property
    def support(self):
        """The non-negative numbers."""
        return constraints.nonnegative

    @property
    def mode(self) -> Tensor:
        """0 for k <= 1, where torch has NaN, else scale ((k - 1) / k)^(1 / k)."""
        above = self.concentration > 1.0
        k = torch.where(above, self.concentration, 2.0)
        return torch.where(above, self.scale * (torch.log1p(-1.0 / k) / k).exp(), 0.0)

    @property
    def variance(self) -> Tensor:
        """scale^2 (Gamma(1 + 2 / k) - Gamma(1 + 1 / k)^2)."""
        inverse = 1.0 / self.concentration
        square = 2.0 * torch.lgamma(1.0 + inverse)
        growth = torch.expm1(torch.lgamma(1.0 + 2.0 * inverse) - square)
        return self.scale.square() * square.exp() * growth

    def _log_density(self, x: Tensor) -> Tensor:
        k, zero = self.concentration, x == 0.0
        ratio = torch.where(zero, 1.0, x).log() - self.scale.log()
        inner = (k - 1.0) * ratio - (k * ratio).exp()
        falling = torch.where(zero, -x / self.scale, 0.0)  # 0, with the gradient of the exponential
        edge = torch.where(k == 1.0, falling, torch.where(k > 1.0, -math.inf, math.inf))
        return k.log() - self.scale.log() + torch.where(zero, edge, inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # 0 at 0, with the slope of the exponential for k = 1
        at_zero = torch.where(self.concentration == 1.0, x / self.scale, 0.0)
        hazard = torch.where(x == 0.0, at_zero, self._log_hazard(x).exp())
        return -torch.expm1(-hazard), (-hazard).exp()

    def _log_hazard(self, x: Tensor) -> Tensor:
        return self.concentration * (torch.where(x == 0.0, 1.0, x) / self.scale).log()

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X <= value), also where the probability underflows."""
        log_hazard = self._log_hazard(value.clamp(min=0.0))
        tiny = (log_hazard < -20.0) & (value > 0.0)
        first_order = log_hazard - 0.5 * log_hazard.exp()  # log(1 - e^-h) = log h - h / 2 + ...
        zero = value <= 0.0
        rest = super().log_cdf(torch.where(tiny | zero, self.scale, value))
        return torch.where(zero, -math.inf, torch.where(tiny, first_order, rest))

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        hazard = -log_probabilities(lower, upper)[1]
        return self.scale * (hazard.log() / self.concentration).exp()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        hazard = -draw_uniform(key, shape, self.float_dtype()).log()
        return self.scale * (hazard.log() / self.concentration).exp()


class LogNormal(Univariate, torch.distributions.LogNormal):
    """torch's log-normal, with density 0 at 0."""

    _ends = (0.0, math.inf)
    _inside = 1.0

    @property
    def support(self):
        """The non-negative numbers."""
        return constraints.nonnegative

    def _log_density(self, x: Tensor) -> Tensor:
        zero = x == 0.0
        log_x = torch.where(zero, 1.0, x).log()
        z = (log_x - self.loc) / self.scale
        density = -0.5 * z.square() - self.scale.log() - log_x - 0.5 * math.log(2 * math.pi)
        return torch.where(zero, -math.inf, density)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = x == 0.0
        z = (torch.where(zero, 1.0, x).log() - self.loc) / self.scale
        return torch.where(zero, 0.0, ndtr(z)), torch.where(zero, 1.0, ndtr(-z))

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        small = lower < 0.5
        tail = torch.special.ndtri(torch.where(small, lower, upper))
        return (self.loc + self.scale * torch.where(small, tail, -tail)).exp()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return (self.loc + self.scale * random.normal(key, shape, self.float_dtype())).exp()


class HalfNormal(Univariate, torch.distributions.HalfNormal):
    """torch's half-normal, written out."""

    _ends = (0.0, math.inf)
    _inside = 1.0

    def _log_density(self, x: Tensor) -> Tensor:
        z = x / self.scale
        return 0.5 * math.log(2 / math.pi) - self.scale.log() - 0.5 * z.square()

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = x / (self.scale * math.sqrt(2))
        return torch.erf(z), torch.erfc(z)

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        small = lower < 0.5
        near = math.sqrt(2) * torch.erfinv(torch.where(small, lower, 0.5))
        far = -torch.special.ndtri(0.5 * torch.where(small, 0.5, upper))
        return self.scale * torch.where(small, near, far)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.scale * random.normal(key, shape, self.float_dtype()).abs()
