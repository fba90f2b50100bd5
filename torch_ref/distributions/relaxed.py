"""Continuous relaxations of Bernoulli and one-hot draws.

Twin of `jaxprob/distributions/relaxed.py`, written from the densities.
"""

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref import random
from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs, require_one
from torch_ref.distributions.special import log_probabilities, softplus

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]


class RelaxedBernoulli(LogitsOrProbs):
    """Concrete distribution over the unit interval.

    Args:
      temperature: Temperature (> 0).
      logits: Log-odds of the end 1.
      probs: Probability of the end 1; give one of the two.
    """

    arg_constraints = {"temperature": constraints.positive, **SUCCESS_CONSTRAINTS}
    support = constraints.unit_interval
    has_rsample = True
    _ends = (0.0, 1.0)
    _inside = 0.5

    def __init__(self, temperature, logits: Tensor | None = None, probs: Tensor | None = None):
        (self.temperature,) = self._set_success(logits, probs, temperature)
        self._validate_parameters()
        super().__init__(self.probs.shape, validate_args=False)

    def _log_density(self, x: Tensor) -> Tensor:
        edge = (x <= 0.0) | (x >= 1.0)
        inside = torch.where(edge, 0.5, x)
        log_x, log_y = inside.log(), torch.log1p(-inside)
        z = self.logits - self.temperature * (log_x - log_y)
        inner = self.temperature.log() - softplus(z) - softplus(-z) - log_x - log_y
        t = self.temperature
        limit = torch.where(t < 1.0, math.inf, torch.where(t > 1.0, -math.inf, 0.0))
        end = t.log() + torch.where(x <= 0.0, -1.0, 1.0) * self.logits + limit
        return torch.where(edge, end, inner)

    def _tails(self, x: Tensor) -> tuple[Tensor, Tensor]:
        edge = (x <= 0.0) | (x >= 1.0)
        inside = torch.where(edge, 0.5, x)
        z = self.temperature * (inside.log() - torch.log1p(-inside)) - self.logits
        return torch.where(edge, x, z.sigmoid()), torch.where(edge, 1.0 - x, (-z).sigmoid())

    def _quantile(self, lower: Tensor, upper: Tensor) -> Tensor:
        log_lower, log_upper = log_probabilities(lower, upper)
        return ((self.logits + log_lower - log_upper) / self.temperature).sigmoid()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        noise = random.logistic(key, shape, self.float_dtype())
        limits = torch.finfo(noise.dtype)
        draws = ((self.logits + noise) / self.temperature).sigmoid()
        return draws.clamp(limits.tiny, 1.0 - 0.5 * limits.eps)


class RelaxedOneHotCategorical(Distribution):
    """Concrete distribution over the interior of the simplex.

    Args:
      temperature: Temperature (> 0) `[*batch]`.
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`; give one of the two.
    """

    arg_constraints = {"temperature": constraints.positive, "logits": constraints.real_vector}
    support = constraints.simplex

    def __init__(self, temperature, logits: Tensor | None = None, probs: Tensor | None = None):
        require_one("RelaxedOneHotCategorical", logits, probs)
        self.logits = torch.log_softmax(logits if probs is None else probs.log(), dim=-1)
        shape = self.logits.shape
        self.temperature = torch.as_tensor(temperature, dtype=self.logits.dtype).expand(shape[:-1])
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def probs(self) -> Tensor:
        """Probabilities of the corners."""
        return self.logits.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value)."""
        size, t = value.shape[-1], self.temperature.unsqueeze(-1)
        scores = self.logits - t * value.log()
        log_prob = (scores - value.log()).sum(-1) - size * log_sum_exp(scores, dim=-1)
        return log_prob + math.lgamma(size) + (size - 1) * self.temperature.log()

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        noise = random.gumbel(key, shape, self.logits.dtype)
        draws = ((self.logits + noise) / self.temperature.unsqueeze(-1)).softmax(-1)
        return draws.clamp(min=torch.finfo(noise.dtype).tiny)
