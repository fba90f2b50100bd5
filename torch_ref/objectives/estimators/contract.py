"""Gradient estimators: a surrogate whose value and whose gradient are both right.

Twin of `jaxprob/objectives/estimators/contract.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions import Bernoulli, Distribution, OneHotCategorical
from torch_ref.objectives.annealing import Schedule

__all__ = [
    "Estimate",
    "Estimator",
    "Integrand",
    "draws",
    "factors",
    "log_prob_of_draws",
    "require_samples",
    "score_term",
    "without_state",
]

Integrand = Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """Surrogate `[*batch]`, loss of what is learned beside `[*batch]`, state of the next call."""

    value: Tensor
    baseline_loss: Tensor
    state: dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A gradient estimator with its settings; see the twin."""

    name: str
    estimate: Callable[..., Estimate]
    num_samples: int = 1
    log_mean_exp: bool = False
    learns_baseline: bool = False
    learns_control: bool = False
    relaxed: bool = False
    init: Callable[[], dict[str, Tensor]] = dict
    schedules: tuple[float | Schedule, ...] = ()
    shortened: bool = False
    unit_score: bool = False

    def __call__(
        self,
        q: Distribution,
        f: Integrand,
        key: Tensor,
        *,
        batch: Mapping[str, Tensor] | None = None,
        baseline: Tensor | Integrand | None = None,
        state: dict[str, Tensor] | None = None,
    ) -> Estimate:
        """Estimates E_q[f(z)] and its gradient."""
        if (self.learns_baseline or self.learns_control) != (baseline is not None):
            raise ValueError(f"{self.name}: a baseline is given exactly where one is learned.")
        state = self.init() if state is None else state
        return self.estimate(q, f, key, batch or {}, baseline, state)


def without_state(value: Tensor) -> Estimate:
    """Returns the estimate of a method that has neither state nor baseline."""
    return Estimate(value, torch.zeros_like(value), {})


def draws(q: Distribution, key: Tensor, num_samples: int) -> Tensor:
    """Returns draws without gradient `[S, *batch, *event]`, each from a key of its own."""
    z = torch.stack([q.draw(k) for k in random.split(key, num_samples)]).detach()
    if isinstance(factors(q), Bernoulli | OneHotCategorical):
        z = z.to(q.float_dtype())
    return z


def factors(q: Distribution) -> Any:
    """Returns the distribution below all `Independent`s."""
    while isinstance(q, torch.distributions.Independent):
        q = q.base_dist
    return q


def log_prob_of_draws(q: Distribution, z: Tensor) -> Tensor:
    """Returns log q(z) `[S, *batch]`."""
    return q.log_prob(z.detach())


def score_term(signal: Tensor, log_q: Tensor) -> Tensor:
    """Returns a term of value 0 and gradient signal grad log q."""
    return signal.detach() * (log_q - log_q.detach())


def require_samples(owner: str, num_samples: int, least: int = 1) -> None:
    """Raises a `ValueError` where there are too few draws."""
    if num_samples < least:
        raise ValueError(f"{owner}: num_samples must be at least {least}; got {num_samples}.")
