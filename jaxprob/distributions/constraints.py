"""Constraints: what a parameter or an event must satisfy, in words and as a test.

A constraint is a small object with a `check(value)` that returns a boolean array (True where the
value is allowed), the sentence that an error message uses, and the usual way to satisfy it.

Twin: `torch_ref/distributions/constraints.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxprob.types import Array, ArrayLike

__all__ = [
    "Constraint",
    "finite",
    "lower_cholesky",
    "positive",
    "probability",
    "real",
    "real_vector",
]


class Constraint(NamedTuple):
    """A predicate over arrays with the words that an error message needs.

    Attributes:
      name: What the value must be, to follow "must be".
      test: `test(value, xp)` with `xp` NumPy or jax.numpy; True where the value is allowed. Its
        shape is that of the value less `event_ndims` trailing axes.
      fix: One sentence on how to satisfy the constraint.
      event_ndims: Trailing axes that are judged together (2 for a matrix).
    """

    name: str
    test: Callable
    fix: str
    event_ndims: int = 0

    def check(self, value: ArrayLike) -> Array:
        """Returns a boolean array, True where `value` is allowed."""
        return self.test(jnp.asarray(value), jnp)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def _is_lower_cholesky(value, xp):
    diagonal = xp.diagonal(value, axis1=-2, axis2=-1)
    lower = xp.all(value == xp.tril(value), axis=(-2, -1))
    return lower & xp.all(diagonal > 0, axis=-1) & xp.all(xp.isfinite(value), axis=(-2, -1))


def _not_nan(value, xp):
    if not np.issubdtype(value.dtype, np.inexact):  # integers and booleans cannot be NaN
        return xp.ones(value.shape, bool)
    return ~xp.isnan(value)


real = Constraint(
    "a real number (not NaN)",
    _not_nan,
    "Look for the NaN upstream: a division by zero, log of a negative number, or bad data.",
)
real_vector = real._replace(name="a vector of real numbers (no NaN)")
finite = Constraint(
    "finite",
    lambda value, xp: _not_nan(value, xp) & (xp.abs(value) < xp.inf),
    "Drop those rows or impute the values.",
)
probability = Constraint(
    "a probability between 0 and 1",
    lambda value, xp: (value >= 0) & (value <= 1),
    "Write 0.9 for the 90 % quantile.",
)
positive = Constraint(
    "positive (> 0)",
    lambda value, xp: value > 0,
    "Make it positive by construction: jax.nn.softplus(raw) + floor, or jnp.exp(log_value).",
)
lower_cholesky = Constraint(
    "lower triangular with a positive diagonal",
    _is_lower_cholesky,
    "Take it from jnp.linalg.cholesky(covariance), or jnp.tril(raw) with a softplus diagonal.",
    event_ndims=2,
)
