"""Counts without an upper end and with one parameter.

Twin of `jaxprob/distributions/counts.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs
from torch_ref.distributions.poisson_draws import poisson_draws
from torch_ref.distributions.special import HALF_LOG_TWO_PI, binet, deviance
from torch_ref.distributions.summation import entropy_of_counts
from torch_ref.distributions.tails import gamma_tails
from torch_ref.distributions.univariate import Univariate, draw_uniform

__all__ = ["Geometric", "Poisson"]


class Poisson(Univariate, torch.distributions.Poisson):
    """torch's Poisson in Loader's form, right for large rates; it had no cdf."""

    _ends = (0.0, math.inf)
    _discrete = True

    @property
    def mode(self) -> Tensor:
        """The largest integer up to rate."""
        return self.rate.floor()

    def _log_density(self, x: Tensor) -> Tensor:
        zero = x == 0.0
        k = torch.where(zero, 1.0, x)
        inner = -deviance(k, self.rate) - binet(k) - 0.5 * k.log() - HALF_LOG_TWO_PI
        return torch.where(zero, -self.rate, inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = gamma_tails(x + 1.0, self.rate)
        return upper, lower

    def entropy(self) -> Tensor:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        return entropy_of_counts(self)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return poisson_draws(key, self.rate, shape)


class Geometric(LogitsOrProbs):
    """Failures before the first success.

    Args:
      logits: Log-odds of a success.
      probs: Probability of a success; give one of the two.
    """

    arg_constraints = SUCCESS_CONSTRAINTS
    support = constraints.nonnegative_integer
    _ends = (0.0, math.inf)
    _discrete = True

    def __init__(self, *, logits: Tensor | None = None, probs: Tensor | None = None):
        self._set_success(logits, probs)
        self._validate_parameters()
        super().__init__(self.probs.shape, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        return self.log_success(torch.ones_like(x)) + self.log_failure(x)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_upper = self.log_failure(x + 1.0)
        return -torch.expm1(log_upper), log_upper.exp()

    @property
    def mean(self) -> Tensor:
        """(1 - p) / p."""
        return self.failure_probs / self.probs

    @property
    def variance(self) -> Tensor:
        """(1 - p) / p^2."""
        return self.mean / self.probs

    @property
    def mode(self) -> Tensor:
        """0."""
        return torch.zeros_like(self.probs)

    def entropy(self) -> Tensor:
        """Returns the Bernoulli entropy over p."""
        inner = self.log_success(self.probs) + self.log_failure(self.failure_probs)
        return -inner / self.probs

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        u = draw_uniform(key, shape, self.float_dtype())
        return (u.log() / self.log_failure(torch.ones_like(self.probs))).floor()
