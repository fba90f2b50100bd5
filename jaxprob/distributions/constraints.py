"""Constraints: what a parameter or an event must satisfy, in words and as a test.

A constraint is a small object with a `check(value)` that returns a boolean array (True where the
value is allowed), the sentence that an error message uses, and the usual way to satisfy it.
`to_constrained(constraint)` is the bijection from unconstrained numbers to the allowed values.

Twin: `torch_ref/distributions/constraints.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import distrax
import jax.numpy as jnp

from jaxprob.distributions import bijections
from jaxprob.types import Array, ArrayLike

__all__ = [
    "Constraint",
    "boolean",
    "finite",
    "integer_interval",
    "interval",
    "lower_cholesky",
    "non_negative",
    "non_negative_integer",
    "one_hot",
    "ordered",
    "positive",
    "positive_definite",
    "probability",
    "real",
    "real_vector",
    "simplex",
    "simplex_interior",
    "to_constrained",
    "to_unconstrained",
    "unit_interval",
]


class Constraint(NamedTuple):
    """A predicate over arrays with the words that an error message needs.

    Attributes:
      name: What the value must be, to follow "must be".
      test: `test(value, xp)` with `xp` NumPy or jax.numpy; True where the value is allowed. Its
        shape is that of the value less `event_ndims` trailing axes, broadcast with the bounds.
      fix: One sentence on how to satisfy the constraint.
      event_ndims: Trailing axes that are judged together (2 for a matrix).
      discrete: Whether the allowed values are isolated points.
      bijection: Makes the map from unconstrained numbers; None where there is none.
      bounds: Arrays that `test` closes over.
    """

    name: str
    test: Callable
    fix: str
    event_ndims: int = 0
    discrete: bool = False
    bijection: Callable[[], distrax.Bijector] | None = None
    bounds: tuple = ()

    def check(self, value: ArrayLike) -> Array:
        """Returns a boolean array, True where `value` is allowed."""
        return self.test(jnp.asarray(value), jnp)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def to_constrained(constraint: Constraint) -> distrax.Bijector:
    """Returns the bijection from unconstrained numbers to what `constraint` allows.

    Its `forward_and_log_det` gives the value and the log-determinant of the Jacobian. Matrices
    come from vectors of their free entries, a simplex of K from K - 1 numbers.

    Raises:
      ValueError: A discrete constraint, or one without a bijection.
    """
    if constraint.bijection is None:
        raise ValueError(
            f"to_constrained: there is no bijection from real numbers to values that are "
            f"{constraint.name}. Use a relaxation, or enumerate the values."
        )
    return constraint.bijection()


def to_unconstrained(constraint: Constraint) -> distrax.Bijector:
    """Returns the inverse of `to_constrained`: allowed values to unconstrained numbers.

    Raises:
      ValueError: A discrete constraint, or one without a bijection.
    """
    return distrax.Inverse(to_constrained(constraint))


def interval(low: ArrayLike, high: ArrayLike) -> Constraint:
    """Returns the closed interval between two arrays of one shape."""
    return Constraint(
        "between low and high (both included)",
        lambda value, xp: _lift(xp.asarray(value), low, xp, "ge") & _lift(value, high, xp, "le"),
        "Clip the value, or widen the interval.",
        bijection=lambda: bijections.Sigmoid(low, high),
        bounds=(low, high),
    )


def integer_interval(low: ArrayLike, high: ArrayLike) -> Constraint:
    """Returns the integers from `low` to `high`, both included."""
    return Constraint(
        "an integer between 0 and total_count",
        lambda value, xp: (
            _lift(value, low, xp, "ge") & _lift(value, high, xp, "le") & _whole(value, xp)
        ),
        "Round the counts, and check total_count.",
        discrete=True,
        bounds=(low, high),
    )


def _lift(value, bound, xp, relation: str):
    """Compares value and bound, aligned from the right, whichever has more axes."""
    bound = xp.asarray(bound)
    ndim = max(value.ndim, bound.ndim)
    left = value.reshape((1,) * (ndim - value.ndim) + value.shape)
    right = bound.reshape((1,) * (ndim - bound.ndim) + bound.shape)
    return left >= right if relation == "ge" else left <= right


def _whole(value, xp):
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return xp.ones(value.shape, bool)
    return value == xp.floor(value)


def _is_lower_cholesky(value, xp):
    diagonal = xp.diagonal(value, axis1=-2, axis2=-1)
    lower = xp.all(value == xp.tril(value), axis=(-2, -1))
    return lower & xp.all(diagonal > 0, axis=-1) & xp.all(xp.isfinite(value), axis=(-2, -1))


def _is_positive_definite(value, xp):
    turned = xp.swapaxes(value, -1, -2)
    scale = xp.max(xp.abs(value), axis=(-2, -1), keepdims=True)
    close = xp.all(xp.abs(value - turned) <= 1e-5 * scale, axis=(-2, -1))
    clean = xp.where(xp.isfinite(value), value, 0.0)
    return close & (xp.linalg.eigvalsh(0.5 * (clean + xp.swapaxes(clean, -1, -2)))[..., 0] > 0)


def _not_nan(value, xp):
    if not jnp.issubdtype(value.dtype, jnp.inexact):  # integers and booleans cannot be NaN
        return xp.ones(value.shape, bool)
    return ~xp.isnan(value)


def _on_simplex(value, xp):
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        value = value.astype(float)
    slack = max(1e-6, 100 * float(jnp.finfo(value.dtype).eps))
    return xp.all(value >= 0, axis=-1) & (xp.abs(xp.sum(value, axis=-1) - 1.0) <= slack)


def _is_one_hot(value, xp):
    binary = xp.all((value == 0) | (value == 1), axis=-1)
    return binary & (xp.sum(value, axis=-1) == 1)


real = Constraint(
    "a real number (not NaN)",
    _not_nan,
    "Look for the NaN upstream: a division by zero, log of a negative number, or bad data.",
    bijection=bijections.Identity,
)
real_vector = real._replace(name="a vector of real numbers (no NaN)")
finite = Constraint(
    "finite",
    lambda value, xp: _not_nan(value, xp) & (xp.abs(value) < xp.inf),
    "Drop those rows or impute the values.",
    bijection=bijections.Identity,
)
probability = Constraint(
    "a probability between 0 and 1",
    lambda value, xp: (value >= 0) & (value <= 1),
    "Write 0.9 for the 90 % quantile.",
    bijection=bijections.Sigmoid,
)
unit_interval = Constraint(
    "between 0 and 1",
    lambda value, xp: (value >= 0) & (value <= 1),
    "Divide by the largest possible value, or pass logits instead of probabilities.",
    bijection=bijections.Sigmoid,
)
positive = Constraint(
    "positive (> 0)",
    lambda value, xp: value > 0,
    "Make it positive by construction: jax.nn.softplus(raw) + floor, or jnp.exp(log_value).",
    bijection=bijections.Exp,
)
non_negative = Constraint(
    "non-negative (>= 0)",
    lambda value, xp: value >= 0,
    "Look for a sign error, or shift the data; a parameter is made so by jax.nn.softplus(raw).",
    bijection=bijections.Exp,
)
non_negative_integer = Constraint(
    "a count: 0, 1, 2, ...",
    lambda value, xp: (value >= 0) & _whole(value, xp),
    "Round the values, or take a continuous distribution such as Gamma.",
    discrete=True,
)
boolean = Constraint(
    "0 or 1",
    lambda value, xp: (value == 0) | (value == 1),
    "Threshold the values, or take Beta for values in between.",
    discrete=True,
)
simplex = Constraint(
    "a vector of probabilities that sum to 1",
    _on_simplex,
    "Normalise it: jax.nn.softmax(logits), or x / x.sum(-1, keepdims=True).",
    event_ndims=1,
    bijection=bijections.StickBreaking,
)
simplex_interior = Constraint(
    "a vector of positive probabilities that sum to 1",
    lambda value, xp: _on_simplex(value, xp) & xp.all(value > 0, axis=-1),
    "Take it from jax.nn.softmax(logits).",
    event_ndims=1,
    bijection=bijections.StickBreaking,
)
one_hot = Constraint(
    "a one-hot vector",
    _is_one_hot,
    "Encode the class: jax.nn.one_hot(index, num_classes).",
    event_ndims=1,
    discrete=True,
)
ordered = Constraint(
    "a strictly increasing vector",
    lambda value, xp: xp.all(value[..., 1:] > value[..., :-1], axis=-1),
    "Sort it, or build it by jnp.cumsum of positive steps.",
    event_ndims=1,
    bijection=bijections.Ordered,
)
lower_cholesky = Constraint(
    "lower triangular with a positive diagonal",
    _is_lower_cholesky,
    "Take it from jnp.linalg.cholesky(covariance), or jnp.tril(raw) with a softplus diagonal.",
    event_ndims=2,
    bijection=bijections.LowerCholesky,
)
positive_definite = Constraint(
    "a symmetric positive definite matrix",
    _is_positive_definite,
    "Symmetrise it and add a small multiple of the identity.",
    event_ndims=2,
    bijection=bijections.PositiveDefinite,
)
