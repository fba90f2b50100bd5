"""Hyper-parameters as the transforms receive them: numbers, arrays, or schedules of the step."""

import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.types import Array, ArrayLike

__all__ = [
    "Number",
    "Schedule",
    "as_float",
    "as_scalar",
    "check",
    "check_betas",
    "check_non_negative",
    "is_zero",
    "value_at",
]

Number = float | int
"""Written out, since a run-time type checker does not take an int for a float."""

Schedule = Callable[[Array], ArrayLike]
"""The value at an update number (0 for the first); any optax schedule is one."""


def check(name: str, value: Any, valid: Callable[[Any], Any], expected: str, fix: str = "") -> None:
    """Refuses a hyper-parameter that torch refuses.

    Only concrete numbers are checked: schedules, and arrays that `optax.inject_hyperparams` or
    `vmap` pass in, have no value yet.

    Args:
        name: the argument as the caller wrote it, e.g. `"betas[0]"`.
        value: what was passed.
        valid: predicate that NaN fails.
        expected: the constraint in words.
        fix: what to write instead, where that is not plain from `expected`.

    Raises:
        ValueError: naming the argument, the constraint and the value.
    """
    if callable(value) or isinstance(value, jax.Array):
        return
    if isinstance(value, list | tuple | dict | str):
        shown = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
        fix = fix or "give a number; parameters go to `init` and `update`"
        raise ValueError(f"{name}: expected {expected}, got {shown}; {fix}")
    if _number(value) is None or not valid(value):
        raise ValueError(f"{name}: expected {expected}, got {value!r}" + (fix and f"; {fix}"))


def check_non_negative(**values: Any) -> None:
    """Checks each named value for `>= 0`."""
    for name, value in values.items():
        fix = "to ascend, pass maximize=True" if name == "lr" else "0 switches it off"
        check(name, value, lambda x: x >= 0, "a number >= 0", fix)


def check_betas(betas: Any) -> None:
    """Checks a pair of decay rates for `0 <= beta < 1`."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ValueError(f"betas: expected a pair (beta1, beta2), got {betas!r}; try (0.9, 0.999)")
    for i, beta in enumerate(betas):
        check(f"betas[{i}]", beta, lambda x: 0 <= x < 1, "a number in [0, 1)", "try (0.9, 0.999)")


def is_zero(value: Any) -> bool:
    """Whether a term can be left out of the compiled step; an array might hold anything."""
    return _number(value) == 0


def value_at(value: ArrayLike | Schedule, step: Array) -> float | Array:
    """A hyper-parameter at the update number `step`.

    A schedule sees the step as int64 where float64 is enabled. JAX divides int32 in float32 even
    then, which would cost a stock optax schedule half of its digits.

    Returns:
        A Python float if the value is constant, so that it adopts the dtype of the tensor that it
        meets; otherwise a scalar array in the widest float that is enabled.
    """
    if callable(value):
        return as_scalar(value(step.astype(jnp.result_type(int))))
    return as_float(value)


def as_float(value: ArrayLike) -> float | Array:
    """A Python float if the value is concrete, otherwise an array in the widest float enabled."""
    number = _number(value)
    return as_scalar(value) if number is None else number


def as_scalar(value: Any) -> Array:
    """An array in the widest float that is enabled: torch does this arithmetic in Python floats."""
    return jnp.asarray(value, jnp.result_type(float))


def _number(value: Any) -> float | None:
    """A concrete number as a Python float; None for whatever is not one."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool)
    return float(value) if is_number else None
