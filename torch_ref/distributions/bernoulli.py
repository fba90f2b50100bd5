"""The Bernoulli distribution from logits or unclamped probabilities.

Twin of `jaxprob/distributions/bernoulli.py`.
"""

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs

__all__ = ["Bernoulli"]


class Bernoulli(LogitsOrProbs):
    """Bernoulli distribution over 0 and 1.

    Args:
      logits: Log-odds of 1.
      probs: Probability of 1; give one of the two.
    """

    arg_constraints = SUCCESS_CONSTRAINTS
    support = constraints.boolean
    _ends = (0.0, 1.0)
    _discrete = True

    def __init__(self, logits: Tensor | None = None, probs: Tensor | None = None):
        self._set_success(logits, probs)
        self._validate_parameters()
        super().__init__(self.probs.shape, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        return self.log_success(x) + self.log_failure(1.0 - x)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.failure_probs.expand(x.shape), self.probs.expand(x.shape)

    @property
    def mean(self) -> Tensor:
        """The probability of 1."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """P (1 - p)."""
        return self.probs * self.failure_probs

    @property
    def mode(self) -> Tensor:
        """1 where p > 1/2."""
        return (self.probs > 0.5).to(self.probs)

    def entropy(self) -> Tensor:
        """Returns -p log p - (1 - p) log(1 - p)."""
        return -self.log_success(self.probs) - self.log_failure(self.failure_probs)

    def sample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008
        """Returns draws."""
        return torch.bernoulli(self.probs.detach().expand(self._extended_shape(sample_shape)))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return random.bernoulli(key, self.probs.detach(), shape).int()
