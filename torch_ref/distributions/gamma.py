"""The gamma distribution and that of its inverse, with Stirling's cancellation.

Twin of `jaxprob/distributions/gamma.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref.distributions.gamma_draws import gamma_draws
from torch_ref.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    digamma_minus_log,
    gamma_log_density,
)
from torch_ref.distributions.tails import gamma_tails
from torch_ref.distributions.univariate import Univariate

__all__ = ["Gamma", "InverseGamma"]


class Gamma(Univariate, torch.distributions.Gamma):
    """torch's gamma, right for large concentrations and at 0."""

    _ends = (0.0, math.inf)
    _inside = 1.0

    def _log_density(self, x: Tensor) -> Tensor:
        return gamma_log_density(x, self.concentration, self.rate)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return gamma_tails(self.concentration, self.rate * x)

    def entropy(self) -> Tensor:
        """Returns log Gamma(a) + a + (1 - a) psi(a) - log b."""
        a = self.concentration
        inner = binet(a) + (1.0 - a) * digamma_minus_log(a)
        return 0.5 * a.log() + HALF_LOG_TWO_PI + inner - self.rate.log()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return gamma_draws(key, self.concentration, shape) / self.rate


class InverseGamma(Univariate, torch.distributions.InverseGamma):
    """torch's inverse gamma, with density 0 at 0."""

    _ends = (0.0, math.inf)
    _inside = 1.0

    @property
    def support(self):
        """The non-negative numbers."""
        return constraints.nonnegative

    def _log_density(self, x: Tensor) -> Tensor:
        zero = x == 0.0
        safe = torch.where(zero, 1.0, x)
        scaled = self.rate / safe
        inner = gamma_log_density(scaled, self.concentration, torch.ones_like(self.rate))
        return torch.where(zero, -math.inf, inner + self.rate.log() - 2.0 * safe.log())

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zero = x == 0.0
        lower, upper = gamma_tails(self.concentration, self.rate / torch.where(zero, 1.0, x))
        return torch.where(zero, 0.0, upper), torch.where(zero, 1.0, lower)

    def entropy(self) -> Tensor:
        """Returns a + log b + log Gamma(a) - (1 + a) psi(a)."""
        a = self.concentration
        inner = binet(a) - (1.0 + a) * digamma_minus_log(a)
        return HALF_LOG_TWO_PI - 1.5 * a.log() + inner + self.rate.log()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self.rate / gamma_draws(key, self.concentration, shape)
