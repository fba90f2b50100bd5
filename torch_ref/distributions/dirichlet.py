"""The Dirichlet distribution, with Stirling's cancellation.

Twin of `jaxprob/distributions/dirichlet.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution
from torch_ref.distributions.beta import Beta
from torch_ref.distributions.classes import class_covariance, class_variance
from torch_ref.distributions.gamma_draws import log_gamma_draws
from torch_ref.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    deviance,
    digamma_minus_log,
    power_log,
)

__all__ = ["Dirichlet"]


class Dirichlet(Distribution, torch.distributions.Dirichlet):
    """torch's Dirichlet, right for large concentrations and on the faces of the simplex."""

    def marginal(self) -> Beta:
        """Returns the beta distribution of each entry."""
        a = self.concentration
        return Beta(a, a.sum(-1, keepdim=True) - a)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value)."""
        if self._validate_args:
            self._validate_sample(value)
        a, total = self.concentration, self.concentration.sum(-1, keepdim=True)
        zero = value == 0.0
        safe = torch.where(zero, 1.0, value)
        inner = -deviance(a, total * safe) - safe.log()
        powers = power_log(a - 1.0, torch.where(zero, value, 1.0))
        edge = a - a * (a / total).log() + powers - total * value
        terms = torch.where(zero, edge, inner) - binet(a) + 0.5 * a.log() - HALF_LOG_TWO_PI
        of_total = binet(total) - 0.5 * total.log() + HALF_LOG_TWO_PI
        # sum (a - 1) log x, with a_0 (1 - sum x) added, which is nought on the simplex: its
        # gradient towards x is taken off here, for (a - 1) / x is what is left of the density's.
        summed = value.sum(-1)
        gradient = total.squeeze(-1) * (summed - summed.detach())
        return terms.sum(-1) + of_total.squeeze(-1) + gradient

    @property
    def variance(self) -> Tensor:
        """M (1 - m) / (a_0 + 1) with the mean m."""
        return class_variance(self.mean) / (self.concentration.sum(-1, keepdim=True) + 1.0)

    def covariance(self) -> Tensor:
        """Returns (diag(m) - m m^T) / (a_0 + 1)."""
        return class_covariance(self.mean) / (self.concentration.sum(-1)[..., None, None] + 1.0)

    def entropy(self) -> Tensor:
        """Returns log B(a) + (a_0 - K) psi(a_0) - sum_k (a_k - 1) psi(a_k)."""
        a, total = self.concentration, self.concentration.sum(-1)
        size = a.shape[-1]
        logs = 0.5 * a.log().sum(-1) - (size - 0.5) * total.log()
        parts = (binet(a) - (a - 1.0) * digamma_minus_log(a)).sum(-1) - binet(total)
        of_total = (total - size) * digamma_minus_log(total)
        return logs + parts + of_total + (size - 1) * HALF_LOG_TWO_PI

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return log_gamma_draws(key, self.concentration, shape).softmax(-1)
