"""The exact objective and its exact gradient, by enumerating all states: the oracle of the others.

    F = sum_z q(z) f(z)
    F_S = sum over all z_1, ..., z_S of q(z_1) ... q(z_S) log (1/S) sum_s exp f(z_s)

It costs one evaluation of f for each state. Up to `MOST_STATES` it is also a way to train, without
any variance. Probabilities are products, not exp log q: they keep their slopes where one is 0 or 1.
A state of probability 0 adds nothing to the value, even where f is infinite.

Twin: `torch_ref/objectives/estimators/enumeration.py`.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.objectives.estimators.contract import (
    Estimate,
    Estimator,
    Integrand,
    as_draws,
    factors,
    without_state,
)
from jaxprob.requirements import require_count
from jaxprob.types import Array, Params

__all__ = ["MOST_STATES", "enumerated", "exact_gradient", "exact_objective", "states"]

MOST_STATES = 2**12
"""Largest number of states, or of tuples of states, that is enumerated: 12 Bernoulli variables."""


def states(q: distrax.Distribution) -> np.ndarray:
    """Returns all events of a discrete distribution, `[N, *event]`.

    Args:
      q: Bernoulli, Categorical or OneHotCategorical variables, one or `Independent` ones.

    Raises:
      ValueError: Another distribution, or more than `MOST_STATES` states.
    """
    factor = factors(q)
    if isinstance(factor, distrax.Bernoulli):
        single = np.arange(2)
    elif isinstance(factor, distrax.OneHotCategorical):  # a Categorical too, so it comes first
        single = np.eye(factor.num_categories)
    elif isinstance(factor, distrax.Categorical):
        single = np.arange(factor.num_categories)
    else:
        raise ValueError(
            f"states: {factor.name} is not one that is enumerated; expected Bernoulli, Categorical "
            "or OneHotCategorical variables, one or Independent ones."
        )
    shape = q.event_shape[: len(q.event_shape) - len(factor.event_shape)]
    number, variables = len(single), math.prod(shape)
    _require_few("states", number, variables)
    indices = np.array(list(itertools.product(range(number), repeat=variables)), int)
    return single[indices].reshape(-1, *q.event_shape)


def exact_objective(q: distrax.Distribution, f: Integrand, num_samples: int | None = None) -> Array:
    """Returns E_q[f(z)] of each row, exactly and with its exact gradient.

    Args:
      q: Distribution of the draws, batch shape `[*batch]`.
      f: States `[*batch, *event]` -> `[*batch]`.
      num_samples: S for the bound of several draws, E log (1/S) sum_s exp f(z_s); None for E f(z).

    Returns:
      The objective `[*batch]`.

    Raises:
      ValueError: More than `MOST_STATES` states or, with `num_samples`, tuples of them.
    """
    require_count("exact_objective", num_samples=num_samples)
    every = states(q)
    z = as_draws(q, jnp.asarray(every))
    z = z.reshape(len(every), *(1 for _ in q.batch_shape), *q.event_shape)
    z = jnp.broadcast_to(z, (len(every), *q.batch_shape, *q.event_shape))
    values, probs = jax.vmap(f)(z), _probs_of_states(q, every)
    if num_samples is None:
        return _weighted_sum(probs, values)
    _require_few("exact_objective", len(every), num_samples)
    tuples = np.array(list(itertools.product(range(len(every)), repeat=num_samples)))
    bound = jax.nn.logsumexp(values[tuples], axis=1) - math.log(num_samples)
    return _weighted_sum(jnp.prod(probs[tuples], axis=1), bound)


def exact_gradient(
    make_q: Callable[[Params], distrax.Distribution],
    f: Callable[[Params, Array], Array],
    num_samples: int | None = None,
) -> Callable[[Params], Any]:
    """Returns the function params -> exact gradient of the objective, summed over the rows.

    Args:
      make_q: Params -> distribution of the draws.
      f: (params, states `[*batch, *event]`) -> `[*batch]`.
      num_samples: As in `exact_objective`.

    Raises:
      ValueError: When called, more than `MOST_STATES` states.
    """
    require_count("exact_gradient", num_samples=num_samples)

    def total(params: Params) -> Array:
        return jnp.sum(exact_objective(make_q(params), lambda z: f(params, z), num_samples))

    return jax.grad(total)


def enumerated() -> Estimator:
    """Returns the exact objective in the form of an estimator; it takes no draws."""

    def estimate(q, f, key, batch, predicted, state) -> Estimate:
        return without_state(exact_objective(q, f))

    return Estimator("enumerated", estimate)


def _probs_of_states(q: distrax.Distribution, every: np.ndarray) -> Array:
    """q(z) of all states, `[N, *batch]`."""
    factor = factors(q)
    if isinstance(factor, distrax.Bernoulli):
        rest = getattr(factor, "_failure_probs", 1.0 - factor.probs)  # it keeps the digits of 1 - p
        classes = jnp.stack([rest, factor.probs], axis=-1)
    else:
        classes = factor.probs  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(factor, distrax.OneHotCategorical):
        every = np.eye(classes.shape[-1])[every]
    batch = len(q.batch_shape)
    chosen = every.reshape(len(every), *(1,) * batch, *every.shape[1:]).astype(classes.dtype)
    each = jnp.sum(chosen * classes[None], axis=-1)
    return jnp.prod(each, axis=tuple(range(1 + batch, each.ndim)))


def _weighted_sum(probs: Array, values: Array) -> Array:
    """Sum over the first axis, with 0 inf = 0."""
    return jnp.sum(probs * jnp.where((probs == 0.0) & jnp.isinf(values), 0.0, values), axis=0)


def _require_few(owner: str, number: int, power: int) -> None:
    if number**power > MOST_STATES:
        raise ValueError(
            f"{owner}: {number}^{power} = {number**power} states are more than {MOST_STATES}; "
            "enumeration is for small problems. Use score_function or vimco."
        )
