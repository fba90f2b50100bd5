"""A probability of success, given as logits or as itself, and used in the form in which it came.

torch clamps `probs` to [eps, 1 - eps]; here 0 and 1 mean what they say.

Twin of `jaxprob/distributions/logits.py`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from torch_ref.distributions.special import HALF_LOG_TWO_PI, binet, deviance, softplus, xlogy
from torch_ref.distributions.univariate import Univariate

__all__ = ["LogitsOrProbs", "binomial_log_density", "require_one"]

SUCCESS_CONSTRAINTS = {"logits": constraints.real, "probs": constraints.unit_interval}


def require_one(owner: str, logits: object, probs: object) -> None:
    """Raises a `ValueError` unless exactly one of the two is given."""
    if (logits is None) == (probs is None):
        raise ValueError(f"{owner}: give either logits or probs.")


class LogitsOrProbs(Univariate):
    """A family with a probability of success among its parameters."""

    arg_constraints = SUCCESS_CONSTRAINTS

    def _set_success(self, logits, probs, *others) -> list[Tensor]:
        require_one(type(self).__name__, logits, probs)
        held, *others = broadcast_all(probs if logits is None else logits, *others)
        if others and not others[0].is_floating_point():
            others = [o.to(held.dtype) for o in others]
        # one of the two is None
        self._logits: Any = None if logits is None else held
        self._probs: Any = None if probs is None else held
        return others

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the parameters."""
        return (self._logits if self._probs is None else self._probs).dtype

    def _validate_parameters(self) -> None:
        if self._probs is not None and not bool(constraints.unit_interval.check(self._probs).all()):
            raise ValueError(f"{type(self).__name__}: probs must be between 0 and 1.")

    @property
    def logits(self) -> Tensor:
        """Log-odds of success."""
        if self._logits is not None:
            return self._logits
        return self._probs.log() - torch.log1p(-self._probs)

    @property
    def probs(self) -> Tensor:
        """Probability of success."""
        return self._probs if self._logits is None else self._logits.sigmoid()

    @property
    def failure_probs(self) -> Tensor:
        """1 - probs."""
        return 1.0 - self._probs if self._logits is None else (-self._logits).sigmoid()

    def log_success(self, times: Tensor) -> Tensor:
        """Returns times * log p, 0 where times is 0."""
        if self._logits is None:
            return xlogy(times, self._probs.expand(times.shape))
        return self._times(times, -self._logits)

    def log_failure(self, times: Tensor) -> Tensor:
        """Returns times * log(1 - p), 0 where times is 0."""
        if self._logits is None:
            none = times == 0.0
            logs = torch.log1p(-torch.where(none, 0.0, self._probs))
            return torch.where(none, 0.0, times * logs)
        return self._times(times, self._logits)

    @staticmethod
    def _times(times: Tensor, logits: Tensor) -> Tensor:
        none = times == 0.0
        return torch.where(none, 0.0, -times * softplus(torch.where(none, 0.0, logits)))


def binomial_log_density(k: Tensor, j: Tensor, held: LogitsOrProbs) -> Tensor:
    """Returns log C(k + j, k) + k log p + j log(1 - p) for k, j > 0 in Loader's form."""
    n = k + j
    log_p, log_q = held.log_success(torch.ones_like(n)), held.log_failure(torch.ones_like(n))
    saddle = -deviance(k, n * held.probs, n.log() + log_p)
    saddle = saddle - deviance(j, n * held.failure_probs, n.log() + log_q)
    root = 0.5 * ((n / k).log() - j.log()) - HALF_LOG_TWO_PI
    return saddle + binet(n) - binet(k) - binet(j) + root
