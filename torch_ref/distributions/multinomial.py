"""The multinomial distribution; counts that do not sum to total_count have probability 0.

Twin of `jaxprob/distributions/multinomial.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.binomial import Binomial
from torch_ref.distributions.binomial_draws import binomial_draws
from torch_ref.distributions.categorical import CLASS_CONSTRAINTS, ClassProbabilities
from torch_ref.distributions.classes import class_covariance, class_variance
from torch_ref.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    deviance,
)
from torch_ref.distributions.summation import expected_over_counts

__all__ = ["Multinomial"]


class Multinomial(ClassProbabilities):
    """Counts of K classes among n draws.

    Args:
      total_count: Number of draws `[*batch]`.
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`; give one of the two.
    """

    arg_constraints = CLASS_CONSTRAINTS

    def __init__(self, total_count, logits: Tensor | None = None, probs: Tensor | None = None):
        held = self._set_classes(logits, probs)
        self.total_count = torch.as_tensor(total_count, dtype=held.dtype).expand(held.shape[:-1])
        super().__init__(held.shape[:-1], held.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); -inf off the support."""
        x = value.to(self.float_dtype())
        allowed = ((x >= 0) & (x == x.floor())).all(-1) & (x.sum(-1) == self.total_count)
        x = torch.where(allowed.unsqueeze(-1), x, 0.0)
        empty = self.total_count == 0.0
        n = torch.where(empty, 1.0, self.total_count).unsqueeze(-1)
        some = x > 0.0
        log_means = n.log() + torch.where(some, self.logits, 0.0)
        counts = torch.where(some, x, 1.0)
        factorials = binet(counts) + 0.5 * counts.log() + HALF_LOG_TWO_PI
        terms = -deviance(x, n * self.probs, log_means) - torch.where(some, factorials, 0.0)
        total = terms.sum(-1) + (binet(n) + 0.5 * n.log() + HALF_LOG_TWO_PI).squeeze(-1)
        return torch.where(allowed, torch.where(empty, 0.0, total), -math.inf)

    def marginal(self) -> Binomial:
        """Returns the binomial distribution of each count."""
        return Binomial(self.total_count.unsqueeze(-1), probs=self.probs.clamp(max=1.0))

    @property
    def mean(self) -> Tensor:
        """N p."""
        return self.total_count.unsqueeze(-1) * self.probs

    @property
    def variance(self) -> Tensor:
        """N p (1 - p)."""
        return self.total_count[..., None] * class_variance(self.probs)

    def covariance(self) -> Tensor:
        """Returns n (diag(p) - p p^T)."""
        return self.total_count[..., None, None] * class_covariance(self.probs)

    def entropy(self) -> Tensor:
        """Returns -E log p(X) in nats, from the binomial law of each count.

        log p(x) = log n! - sum_k log x_k! + sum_k x_k log p_k
        """
        n = self.total_count
        of_classes = n * self.expected_log_prob(self.probs)
        factorials = expected_over_counts(self.marginal(), lambda x: torch.lgamma(x + 1.0))
        return factorials.sum(-1) - torch.lgamma(n + 1.0) - of_classes

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        # class by class: each takes a binomial share of what the classes before it have left
        probs = self.probs.detach().expand(shape)
        rest, counts = self.total_count.expand(shape[:-1]), []
        left = probs.flip(-1).cumsum(-1).flip(-1)
        safe = torch.where(left == 0.0, 1.0, left)
        p = (probs / safe).clamp(max=1.0)
        q = (torch.nn.functional.pad(left[..., 1:], (0, 1)) / safe).clamp(max=1.0)
        keys = random.split(key, shape[-1])
        for own, p_k, q_k in zip(keys, p.unbind(-1), q.unbind(-1), strict=True):
            counts.append(binomial_draws(own, rest, p_k, q_k, shape[:-1]))
            rest = rest - counts[-1]
        return torch.stack(counts, dim=-1)
