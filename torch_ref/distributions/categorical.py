"""Classes, as an index and as a one-hot vector, from logits or unclamped probabilities.

Twin of `jaxprob/distributions/categorical.py`.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.bernoulli import Bernoulli
from torch_ref.distributions.classes import class_variance, log_softmax
from torch_ref.distributions.logits import require_one
from torch_ref.distributions.special import xlogy

__all__ = ["Categorical", "ClassProbabilities", "OneHotCategorical"]

CLASS_CONSTRAINTS = {"logits": constraints.real_vector, "probs": constraints.nonnegative}


class ClassProbabilities(Distribution):
    """K probabilities, given as logits or as themselves."""

    arg_constraints = CLASS_CONSTRAINTS

    def _set_classes(self, logits: Tensor | None, probs: Tensor | None) -> Tensor:
        require_one(type(self).__name__, logits, probs)
        self._logits = None if logits is None else log_softmax(logits)
        self._weights: Any = probs  # None where logits were given
        return self._logits if probs is None else probs

    @property
    def num_categories(self) -> int:
        """Number of classes."""
        return self._held.shape[-1]

    @property
    def _held(self) -> Tensor:
        return self._weights if self._logits is None else self._logits

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the parameters."""
        return self._held.dtype

    @property
    def logits(self) -> Tensor:
        """Normalised log-probabilities."""
        return self._weighted_logs() if self._logits is None else self._logits

    def _weighted_logs(self) -> Tensor:
        return self._weights.log() - self._weights.sum(-1, keepdim=True).log()

    @property
    def probs(self) -> Tensor:
        """Normalised probabilities."""
        if self._logits is None:
            return self._weights / self._weights.sum(-1, keepdim=True)
        return self._logits.exp()

    def expected_log_prob(self, weights: Tensor) -> Tensor:
        """Returns sum_k weights_k log p_k with 0 log 0 = 0."""
        if self._logits is None:
            held = self._weights.expand(weights.shape)
            return xlogy(weights, held).sum(-1) - weights.sum(-1) * self._weights.sum(-1).log()
        none = weights == 0.0
        return torch.where(none, 0.0, weights * torch.where(none, 0.0, self._logits)).sum(-1)

    def entropy(self) -> Tensor:
        """Returns -sum_k p_k log p_k."""
        return -self.expected_log_prob(self.probs)

    def _draw_classes(self, key: Tensor, shape: torch.Size) -> Tensor:
        logits = self._weights.log() if self._logits is None else self._logits
        return random.categorical(key, logits.detach(), shape=shape)


class Categorical(ClassProbabilities):
    """Distribution over the classes 0, ..., K - 1.

    Args:
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`; give one of the two.
    """

    has_enumerate_support = False

    def __init__(self, logits: Tensor | None = None, probs: Tensor | None = None):
        held = self._set_classes(logits, probs)
        super().__init__(held.shape[:-1], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); -inf off the support."""
        allowed = (value >= 0) & (value < self.num_categories) & (value == value.floor())
        index = torch.where(allowed, value, 0).long()
        chosen = torch.nn.functional.one_hot(index, self.num_categories).to(self.float_dtype())
        return torch.where(allowed, self.expected_log_prob(chosen), -math.inf)

    def _up_to(self, value: Tensor | float) -> Tensor:
        value = torch.as_tensor(value, dtype=self.float_dtype()).floor()
        return torch.arange(self.num_categories) <= value.unsqueeze(-1)

    def cdf(self, value: Tensor | float) -> Tensor:
        """Returns P(X <= value)."""
        return torch.where(self._up_to(value), self.probs, 0.0).sum(-1)

    def survival_function(self, value: Tensor | float) -> Tensor:
        """Returns P(X > value)."""
        return torch.where(self._up_to(value), 0.0, self.probs).sum(-1)

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the smallest class with cdf >= q, up to rounding."""
        slack = 16 * torch.finfo(self.float_dtype()).eps
        below = self.probs.cumsum(-1)
        after = self.probs.flip(-1).cumsum(-1).flip(-1) - self.probs
        low, high = lower.unsqueeze(-1), upper.unsqueeze(-1)
        reached = torch.where(low <= 0.5, below >= low * (1 - slack), after <= high * (1 + slack))
        reached[..., -1] = True
        return reached.to(torch.int8).argmax(-1)

    @property
    def mode(self) -> Tensor:
        """The likeliest class."""
        return self._held.argmax(-1)

    def sample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008
        """Returns draws."""
        return torch.distributions.Categorical(probs=self.probs.detach()).sample(sample_shape)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        return self._draw_classes(key, shape)


class OneHotCategorical(ClassProbabilities):
    """Distribution over one-hot vectors.

    Args:
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`; give one of the two.
    """

    support = constraints.one_hot

    def __init__(self, logits: Tensor | None = None, probs: Tensor | None = None):
        held = self._set_classes(logits, probs)
        super().__init__(held.shape[:-1], held.shape[-1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value); -inf off the support."""
        allowed = constraints.one_hot.check(value)
        x = torch.where(allowed.unsqueeze(-1), value, 0).to(self.float_dtype())
        return torch.where(allowed, self.expected_log_prob(x), -math.inf)

    def marginal(self) -> Bernoulli:
        """Returns the Bernoulli distribution of each entry."""
        return Bernoulli(probs=self.probs.clamp(max=1.0))

    @property
    def mean(self) -> Tensor:
        """The probabilities."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """P (1 - p)."""
        return class_variance(self.probs)

    @property
    def mode(self) -> Tensor:
        """The likeliest class as a one-hot vector."""
        return torch.nn.functional.one_hot(self._held.argmax(-1), self.num_categories)

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        classes = self._draw_classes(key, shape[:-1])
        return torch.nn.functional.one_hot(classes, self.num_categories)
