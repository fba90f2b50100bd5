"""The exact objective and its exact gradient, by a loop over all states.

Twin of `jaxprob/objectives/estimators/enumeration.py`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_ref.distributions import Bernoulli, Categorical, Distribution
from torch_ref.objectives.estimators.contract import (
    Estimate,
    Estimator,
    Integrand,
    factors,
    without_state,
)
from torch_ref.objectives.estimators.score import log_mean_exp

__all__ = ["MOST_STATES", "enumerated", "exact_gradient", "exact_objective", "states"]

MOST_STATES = 2**12


def states(q: Distribution) -> Tensor:
    """Returns all events `[N, *event]`."""
    factor = factors(q)
    if isinstance(factor, Bernoulli):
        single: Any = torch.arange(2)
    elif isinstance(factor, Categorical):
        single = torch.arange(factor.num_categories)
    else:
        single = torch.eye(factor.num_categories, dtype=q.float_dtype())
    shape = q.event_shape[: len(q.event_shape) - len(factor.event_shape)]
    variables = math.prod(shape)
    if len(single) ** variables > MOST_STATES:
        raise ValueError(f"states: {len(single)}^{variables} are more than {MOST_STATES}.")
    choices = itertools.product(range(len(single)), repeat=variables)
    return torch.stack([single[list(c)].reshape(q.event_shape) for c in choices])


def exact_objective(q: Distribution, f: Integrand, num_samples: int | None = None) -> Tensor:
    """Returns E_q[f(z)], or with S draws E log (1/S) sum_s exp f(z_s), of each row."""
    values, probs = [], []
    for state in states(q):
        z = state.expand(q.batch_shape + q.event_shape)
        z = z if isinstance(factors(q), Categorical) else z.to(q.float_dtype())
        values.append(f(z))
        probs.append(prob_of(q, z))
    total = torch.zeros_like(values[0])
    for chosen in itertools.product(range(len(values)), repeat=num_samples or 1):
        value = log_mean_exp(torch.stack([values[i] for i in chosen]))
        prob = torch.stack([probs[i] for i in chosen]).prod(0)
        total = total + prob * value.masked_fill((prob == 0) & value.isinf(), 0.0)
    return total


def prob_of(q: Distribution, z: Tensor) -> Tensor:
    """Returns q(z) as a product over the variables, which has slopes where one factor is 0."""
    factor = factors(q)
    if isinstance(factor, Bernoulli):
        each = torch.where(z.bool(), factor.probs, factor.failure_probs)
    elif isinstance(factor, Categorical):
        each = factor.probs.gather(-1, z.long().unsqueeze(-1))
    else:
        each = (factor.probs * z).sum(-1)
    return each.reshape(*q.batch_shape, -1).prod(-1)


def exact_gradient(
    make_q: Callable[[Sequence[Tensor]], Distribution],
    f: Callable[[Sequence[Tensor], Tensor], Tensor],
    num_samples: int | None = None,
) -> Callable[[Sequence[Tensor]], Any]:
    """Returns params -> exact gradient of the objective summed over the rows."""

    def gradient(params: Sequence[Tensor]) -> tuple[Tensor, ...]:
        objective = exact_objective(make_q(params), lambda z: f(params, z), num_samples)
        return torch.autograd.grad(objective.sum(), list(params))

    return gradient


def enumerated() -> Estimator:
    """Returns the exact objective in the form of an estimator."""

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        return without_state(exact_objective(q, f))

    return Estimator("enumerated", estimate)
