"""The gamma distribution and that of its inverse, with Stirling's cancellation.

Twin of `jaxprob/distributions/gamma.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    deviance,
    digamma_minus_log,
    power_log,
)
from torch_ref.distributions.tails import gamma_tails
from torch_ref.distributions.univariate import Univariate

__all__ = ["Gamma", "InverseGamma"]


def gamma_log_density(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns log Gamma(x; a, b) = -D(a, b x) - mu(a) + log(a / (2 pi)) / 2 - log x."""
    zero = x == 0.0
    safe = torch.where(zero, (a / b).detach(), x)
    inner = -deviance(a, b * safe) - binet(a) + 0.5 * (a / (2 * math.pi)).log() - safe.log()
    small = torch.where(zero, a, 1.0)
    powers = power_log(small - 1.0, torch.where(zero, x, 1.0))
    edge = a * b.log() - torch.lgamma(small) + powers - b * x
    return torch.where(zero, edge, inner)


def gamma_draws(key: Tensor, a: Tensor, shape: torch.Size) -> Tensor:
    """Returns draws of rate 1; their slope towards a is -dF / da over the density."""
    draws = random.gamma(key, a, shape, a.dtype)
    return draws + _pathwise(draws, a) if a.requires_grad else draws


def log_gamma_draws(key: Tensor, a: Tensor, shape: torch.Size) -> Tensor:
    """Returns the logarithms of draws of rate 1, which do not underflow for small a."""
    logs = random.loggamma(key, a, shape, a.dtype)
    return logs + _pathwise(logs.exp(), a) / logs.exp() if a.requires_grad else logs


def _pathwise(draws: Tensor, a: Tensor) -> Tensor:
    """Zeros that carry the gradient of draws towards a (Figurnov et al., 2018)."""
    lower, upper = gamma_tails(a, draws)
    probability = torch.where(lower < 0.5, lower, -upper)
    density = gamma_log_density(draws, a.detach(), torch.ones_like(draws)).exp()
    return (probability.detach() - probability) / density


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
