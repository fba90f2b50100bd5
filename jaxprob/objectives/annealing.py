"""Weights that change with the step: KL annealing, temperatures.

    linear     min(1, step / steps)
    cyclical   min(1, position / ramp),   position = (step mod period) / period

Each returns a function of the number of steps taken, as optax's schedules are, and any of those may
stand in its place. A loss that follows one finds the step in `batch["step"]`, where `training`
puts it. For validation a loss takes the weight at which its schedule ends: values at different
weights say nothing of which model is better.

Twin: `torch_ref/objectives/annealing.py`. Sources: Bowman et al., "Generating sentences from a
continuous space" (2016), section 3.1; Fu et al., "Cyclical annealing schedule" (2019), eqs. 6-7.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.requirements import require_count, require_in
from jaxprob.types import Array, Batch

__all__ = [
    "Schedule",
    "cyclical_annealing",
    "final_weight",
    "follows_step",
    "linear_annealing",
    "weight_at",
]

Schedule = Callable[[Any], Any]
"""Number of steps taken -> weight."""

WINDOW = 4096
"""Steps at which a schedule is looked at to find where it ends; a cycle must fit in."""

LATE = (2**23, 2**24 - WINDOW)
"""Where these steps begin: later than any warm-up, and whole numbers in float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Ending:
    """A schedule that says where it ends."""

    function: Schedule
    final: Any

    def __call__(self, step: Any) -> Any:
        return self.function(step)


def linear_annealing(steps: int, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Returns a weight that goes from `start` to `end` in `steps` steps and stays there.

    Raises:
      ValueError: Less than one step.
    """
    require_count("linear_annealing", steps=steps)

    def schedule(step: Any) -> Array:
        share = jnp.minimum(jnp.asarray(step, jnp.result_type(float)) / steps, 1.0)
        return start + (end - start) * share

    return _Ending(schedule, end)


def cyclical_annealing(
    period: int, ramp: float = 0.5, start: float = 0.0, end: float = 1.0
) -> Schedule:
    """Returns a weight that rises from `start` to `end` again and again; validation takes `end`.

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

    return _Ending(schedule, end)


def weight_at(weight: float | Schedule, batch: Batch, owner: str, train: bool = True) -> Any:
    """Returns a weight that is a number, or a schedule at the step that the batch carries.

    Args:
      weight: The number or the schedule.
      batch: Its "step" is the number of steps taken.
      owner: Who asks, for messages.
      train: Whether this is a step of training; validation takes `final_weight`.

    Raises:
      ValueError: A schedule, but no step in the batch.
    """
    if not train:
        return final_weight(weight, owner)
    if not callable(weight):
        return weight
    if "step" not in batch:
        raise ValueError(
            f'{owner}: the weight is a schedule and batch["step"] is missing. training.fit and '
            "make_step add it to a loss whose attribute uses_step is True: keep that attribute on "
            'what wraps this loss, or set batch["step"] yourself.'
        )
    return weight(batch["step"])


def final_weight(weight: float | Schedule, owner: str) -> Any:
    """Returns the weight for validation: the number itself, or that at which a schedule ends.

    That is its attribute `final` where it has one; else its largest value among many late steps,
    which is the end of a warm-up and the top of a cycle.

    Raises:
      ValueError: A schedule that never ends, such as `lambda step: step / 1000`.
    """
    if not callable(weight):
        return weight
    final = getattr(weight, "final", None)
    if final is not None:
        return final
    with jax.ensure_compile_time_eval():  # outside of the program where it depends on nothing else
        at = jax.vmap(lambda step: jnp.asarray(weight(step)))
        first, last = (jnp.max(at(jnp.arange(WINDOW, dtype=jnp.int32) + n)) for n in LATE)
    if not isinstance(last, jax.core.Tracer) and not np.isclose(first, last, rtol=1e-3):
        raise ValueError(
            f"{owner}: validation takes the weight at which a schedule ends, and this one still "
            f"changes after millions of steps: from {float(first):.6g} to {float(last):.6g}. Write "
            "jnp.minimum(1.0, ...) or objectives.linear_annealing(steps), or set its attribute "
            "`final`."
        )
    return last


def follows_step(*weights: float | Schedule) -> bool:
    """Returns whether any of the weights of a loss is a schedule."""
    return any(callable(weight) for weight in weights)
