"""The binomial distribution and its negative, in Loader's form.

torch's own difference log-gammas and clamp probabilities.

Twin of `jaxprob/distributions/binomial.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.binomial_draws import binomial_draws
from torch_ref.distributions.gamma_draws import gamma_draws
from torch_ref.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs, binomial_log_density
from torch_ref.distributions.poisson_draws import poisson_draws
from torch_ref.distributions.summation import entropy_of_counts
from torch_ref.distributions.tails import beta_tails

__all__ = ["Binomial", "NegativeBinomial"]


class Binomial(LogitsOrProbs):
    """Successes among `total_count` trials.

    Args:
      total_count: Number of trials.
      logits: Log-odds of a success.
      probs: Probability of a success; give one of the two.
    """

    arg_constraints = {"total_count": constraints.nonnegative_integer, **SUCCESS_CONSTRAINTS}
    _discrete = True

    def __init__(self, total_count, *, logits: Tensor | None = None, probs: Tensor | None = None):
        (self.total_count,) = self._set_success(logits, probs, total_count)
        self._validate_parameters()
        super().__init__(self.probs.shape, validate_args=False)

    @property
    def support(self):
        """The integers from 0 to total_count."""
        return constraints.integer_interval(0, self.total_count)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(self.total_count), self.total_count

    def _log_density(self, x: Tensor) -> Tensor:
        rest = self.total_count - x
        edge = (x <= 0.0) | (rest <= 0.0)
        inner = binomial_log_density(torch.where(edge, 1.0, x), torch.where(edge, 1.0, rest), self)
        only = self.log_success(torch.where(edge, x, 0.0))
        only = only + self.log_failure(torch.where(edge, rest, 0.0))
        # One way to choose none or all: the logarithm is 0, but its gradient towards n is not.
        n = self.total_count
        ways = torch.lgamma(n + 1.0) - torch.lgamma(x + 1.0) - torch.lgamma(rest.clamp(min=0) + 1.0)
        next_fails = torch.where(
            rest == 0.0, n * self.log_failure(torch.ones_like(n)).detach(), 0.0
        )
        gradients = ways + torch.where(self.failure_probs > 0.0, next_fails, 0.0)
        return torch.where(edge, only + gradients - gradients.detach(), inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rest = (self.total_count - x).clamp(min=0.5)
        return beta_tails(rest, x + 1.0, self.failure_probs, self.probs)

    @property
    def mean(self) -> Tensor:
        """N p."""
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        """N p (1 - p)."""
        return self.mean * self.failure_probs

    @property
    def mode(self) -> Tensor:
        """The largest integer up to (n + 1) p, at most n."""
        return torch.minimum(((self.total_count + 1.0) * self.probs).floor(), self.total_count)

    def entropy(self) -> Tensor:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        return entropy_of_counts(self)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return binomial_draws(key, self.total_count, self.probs, self.failure_probs, shape)


class NegativeBinomial(LogitsOrProbs):
    """Counts whose mean is total_count exp(logits).

    Args:
      total_count: Dispersion (> 0).
      logits: Log-odds.
      probs: Probability of what is counted; give one of the two.
    """

    arg_constraints = {"total_count": constraints.positive, **SUCCESS_CONSTRAINTS}
    support = constraints.nonnegative_integer
    _ends = (0.0, math.inf)
    _discrete = True

    def __init__(self, total_count, logits: Tensor | None = None, probs: Tensor | None = None):
        (self.total_count,) = self._set_success(logits, probs, total_count)
        self._validate_parameters()
        super().__init__(self.probs.shape, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        zero = x == 0.0
        k = torch.where(zero, 1.0, x)
        n = self.total_count.expand(k.shape)
        inner = binomial_log_density(k, n, self) + (n / (n + k)).log()
        return torch.where(zero, self.log_failure(n), inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return beta_tails(self.total_count, x + 1.0, self.failure_probs, self.probs)

    @property
    def mean(self) -> Tensor:
        """N p / (1 - p)."""
        return self.total_count * self.logits.exp()

    @property
    def variance(self) -> Tensor:
        """N p / (1 - p)^2."""
        return self.mean / self.failure_probs

    @property
    def mode(self) -> Tensor:
        """The largest integer up to (n - 1) p / (1 - p), at least 0."""
        return ((self.total_count - 1.0).clamp(min=0.0) * self.logits.exp()).floor()

    def entropy(self) -> Tensor:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        return entropy_of_counts(self)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        gamma_key, poisson_key = random.split(key).unbind(-2)
        rate = gamma_draws(gamma_key, self.total_count.detach(), shape)
        rate = rate * self.logits.detach().exp()
        return poisson_draws(poisson_key, rate, shape)
