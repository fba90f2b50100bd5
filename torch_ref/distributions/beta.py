"""The beta distribution, with Stirling's cancellation.

Twin of `jaxprob/distributions/beta.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.gamma_draws import log_gamma_draws
from torch_ref.distributions.special import binet, deviance, digamma_minus_log, power_log
from torch_ref.distributions.tails import beta_tails
from torch_ref.distributions.univariate import Univariate

__all__ = ["Beta"]


class Beta(Univariate, torch.distributions.Beta):
    """torch's beta, right for large concentrations and at the ends; it had no cdf."""

    _ends = (0.0, 1.0)
    _inside = 0.5

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the parameters."""
        return self.concentration1.dtype

    @property
    def mode(self) -> Tensor:
        """(a - 1) / (a + b - 2) inside; else the likelier end: 0 of equals, 1/2 where all are."""
        a, b = self.concentration1, self.concentration0
        above, below = (a - 1.0).clamp(min=0.0), (b - 1.0).clamp(min=0.0)
        flat = above + below == 0.0
        end = torch.where(a > b, 1.0, torch.where((a == b) & (a == 1.0), 0.5, 0.0)).to(a.dtype)
        return torch.where(flat, end, above / torch.where(flat, 1.0, above + below))

    def _log_beta_remainder(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return binet(a) + binet(b) - binet(a + b)

    def _log_density(self, x: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        total, y = a + b, 1.0 - x
        edge = (x == 0.0) | (y == 0.0)
        x_in, y_in = torch.where(edge, 0.5, x), torch.where(edge, 0.5, y)
        saddle = -deviance(a, total * x_in) - deviance(b, total * y_in)
        root = 0.5 * (a / total * b / (2 * math.pi)).log()
        inner = saddle - self._log_beta_remainder() + root - x_in.log() - torch.log1p(-x_in)
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(total)
        powers = power_log(a - 1.0, torch.where(edge, x, 0.5))
        powers = powers + power_log(b - 1.0, torch.where(edge, y, 0.5))
        return torch.where(edge, powers - log_beta, inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return beta_tails(self.concentration1, self.concentration0, x, 1.0 - x)

    def entropy(self) -> Tensor:
        """Returns log B - (a - 1) psi(a) - (b - 1) psi(b) + (a + b - 2) psi(a + b)."""
        a, b = self.concentration1, self.concentration0
        total = a + b
        logs = 0.5 * (2 * math.pi * (a / total) * (b / total) / total).log()
        digammas = (total - 2.0) * digamma_minus_log(total)
        digammas = digammas - (a - 1.0) * digamma_minus_log(a) - (b - 1.0) * digamma_minus_log(b)
        return logs + self._log_beta_remainder() + digammas

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        keys = random.split(key).unbind(-2)
        parameters = (self.concentration1, self.concentration0)
        logs = [log_gamma_draws(k, a, shape) for k, a in zip(keys, parameters, strict=True)]
        return (logs[0] - logs[1]).sigmoid()
