"""Student's t distribution, with the log-gammas of its constant cancelled after Stirling.

Twin of `jaxprob/distributions/student_t.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.gamma_draws import log_gamma_draws
from torch_ref.distributions.special import binet, deviance, digamma_minus_log, log1p_square
from torch_ref.distributions.tails import beta_tails
from torch_ref.distributions.univariate import Univariate

__all__ = ["StudentT"]


class StudentT(Univariate, torch.distributions.StudentT):
    """torch's Student t, right for large df and far out; it had no cdf."""

    def _log_constant(self) -> Tensor:
        a = 0.5 * self.df
        # a log(1 + 1 / (2 a)) - 1/2 is minus the deviance of a from a + 1/2
        gammas = -deviance(a, a + 0.5) + binet(a + 0.5) - binet(a)
        return gammas - 0.5 * math.log(2 * math.pi)

    def _log_density(self, x: Tensor) -> Tensor:
        z = (x - self.loc) / self.scale
        log_term = log1p_square(z / self.df.sqrt())
        # split -(df + 1) / 2 log(1 + w) as -z^2 / 2 + deviance where z^2 is small beside df
        close = z.square() < 0.1 * self.df
        w = torch.where(close, z, 0.0)
        near = (
            deviance(self.df, self.df + w.square()) - w.square() - log1p_square(w / self.df.sqrt())
        )
        far = -(self.df + 1.0) * log_term
        return self._log_constant() - self.scale.log() + 0.5 * torch.where(close, near, far)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = (x - self.loc) / self.scale
        square = z.square() / self.df
        # At the centre the beta variable is at its end, where it has no gradient to give.
        central = z.square() * (1.0 + 1.0 / self.df) < 0.25 * torch.finfo(z.dtype).eps
        square = torch.where(central, 0.5, square)
        y, rest = 1.0 / (1.0 + square), square / (1.0 + square)
        tail = 0.5 * beta_tails(0.5 * self.df, torch.full_like(square, 0.5), y, rest)[0]
        line = 0.5 + self._log_constant().exp() * torch.where(z <= 0, z, -z)
        tail = torch.where(central, line, tail)
        return torch.where(z <= 0, tail, 1.0 - tail), torch.where(z <= 0, 1.0 - tail, tail)

    def entropy(self) -> Tensor:
        """Returns (df + 1) / 2 (psi((df + 1) / 2) - psi(df / 2)) less the log-constant."""
        a = 0.5 * self.df
        gap = torch.log1p(0.5 / a) + digamma_minus_log(a + 0.5) - digamma_minus_log(a)
        return (a + 0.5) * gap - self._log_constant() + self.scale.log()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        normal_key, gamma_key = random.split(key).unbind(-2)
        a = 0.5 * self.df
        spread = (0.5 * (a.log() - log_gamma_draws(gamma_key, a, shape))).exp()
        return self.loc + self.scale * random.normal(normal_key, shape, a.dtype) * spread
