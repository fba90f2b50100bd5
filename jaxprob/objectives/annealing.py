"""Weights that change with the step: KL annealing, temperatures.

    linear     min(1, step / steps)
    cyclical   min(1, position / ramp),   position = (step mod period) / period

Each returns a function of the number of steps taken, as optax's schedules are, and any of those may
stand in its place. A loss that follows one finds the step in `batch["step"]`, where `training`
puts it.

Twin: `torch_ref/objectives/annealing.py`. Sources: Bowman et al., "Generating sentences from a
continuous space" (2016), section 3.1; Fu et al., "Cyclical annealing schedule" (2019), eqs. 6-7.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxprob.requirements import require_count, require_in
from jaxprob.types import Array, Batch

__all__ = [
    "Schedule",
    "cyclical_annealing",
    "follows_step",
    "linear_annealing",
    "weight_at",
]

Schedule = Callable[[Any], Any]
"""Number of steps taken -> weight."""


def linear_annealing(steps: int, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Returns a weight that goes from `start` to `end` in `steps` steps and stays there.

    Raises:
      ValueError: Less than one step.
    """
    require_count("linear_annealing", steps=steps)

    def schedule(step: Any) -> Array:
        share = jnp.minimum(jnp.asarray(step, jnp.result_type(float)) / steps, 1.0)
        return start + (end - start) * share

    return schedule


def cyclical_annealing(
    period: int, ramp: float = 0.5, start: float = 0.0, end: float = 1.0
) -> Schedule:
    """Returns a weight that rises from `start` to `end` again and again.

    Args:
      period: Steps of a cycle (>= 1).
      ramp: Share of a cycle that rises, in (0, 1]; for the rest the weight is `end`.
      start: Weight at the start of each cycle.
      end: Weight at its end.

    Raises:
      ValueError: Numbers outside these bounds.
    """
    require_count("cyclical_annealing", period=period)
    require_in("cyclical_annealing", "(0, 1]", ramp=ramp)

    def schedule(step: Any) -> Array:
        position = jnp.asarray(jnp.mod(step, period), jnp.result_type(float)) / period
        return start + (end - start) * jnp.minimum(position / ramp, 1.0)

    return schedule


def weight_at(weight: float | Schedule, batch: Batch, owner: str) -> Any:
    """Returns a weight that is a number, or a schedule at the step that the batch carries.

    Raises:
      ValueError: A schedule, but no step in the batch.
    """
    if not callable(weight):
        return weight
    if "step" not in batch:
        raise ValueError(
            f'{owner}: the weight is a schedule and batch["step"] is missing. training.fit and '
            "make_step add it to a loss whose attribute uses_step is True: keep that attribute on "
            'what wraps this loss, or set batch["step"] yourself.'
        )
    return weight(batch["step"])


def follows_step(*weights: float | Schedule) -> bool:
    """Returns whether any of the weights of a loss is a schedule."""
    return any(callable(weight) for weight in weights)
