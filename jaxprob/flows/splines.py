"""Monotone rational-quadratic splines: each element of [-b, b] is mapped into it, others stay.

Between two knots (x0, y0, slope d0) and (x1, y1, slope d1), with t = (x - x0) / (x1 - x0),
u = 1 - t and s = (y1 - y0) / (x1 - x0):

    g     = s (t^2 + u^2) + (d0 + d1) t u
    y     = y0 + (y1 - y0) t (s t + d0 u) / g
    dy/dx = s^2 (d1 t^2 + 2 s t u + d0 u^2) / g^2

All terms are positive, so no digits cancel. With v = (y - y0) / (y1 - y0) and r = d0 (1 - v) - d1 v
the inverse is

    t = 2 s v / (2 s v + q),   q = r + R,   R = sqrt(r^2 + 4 s^2 v (1 - v))

where for r < 0 the sum r + R is taken as 4 s^2 v (1 - v) / (R - r).

Twin: `torch_ref/flows/splines.py`. Source: Gregory & Delbourgo, "Piecewise rational quadratic
interpolation to monotonic data" (1982); Durkan et al., "Neural spline flows" (2019), eqs. 4-8. The
inverse is their quadratic, its discriminant rearranged into a sum of squares.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.types import Array

__all__ = ["MIN_SHARE", "MIN_SLOPE", "Knots", "knots", "num_parameters", "rational_quadratic"]

MIN_SHARE = 1e-3
"""Smallest width and height of a bin, as a share of the interval."""

MIN_SLOPE = 1e-3
"""Smallest slope at a knot."""


class Knots(NamedTuple):
    """The knots of a spline with K bins, each `[..., K + 1]`.

    Attributes:
      x: Positions, rising from -bound to bound.
      y: Values, likewise.
      slope: dy/dx there (> 0), 1 at both ends.
    """

    x: Array
    y: Array
    slope: Array


def num_parameters(bins: int) -> int:
    """Returns 3K - 1: K widths, K heights, K - 1 slopes."""
    return 3 * bins - 1


def knots(raw: Array, bound: float) -> Knots:
    """Makes knots of unbounded numbers; all zero give the identity.

    Args:
      raw: Widths, heights and inner slopes `[..., 3K - 1]`.
      bound: Half the width b of the interval.

    Returns:
      The knots.
    """
    bins = (raw.shape[-1] + 1) // 3
    widths, heights, slopes = jnp.split(raw, (bins, 2 * bins), axis=-1)
    shift = math.log(math.expm1(1.0 - MIN_SLOPE))  # softplus(shift) + MIN_SLOPE = 1
    inner = MIN_SLOPE + jax.nn.softplus(slopes + shift)
    ends = jnp.ones((*raw.shape[:-1], 1), raw.dtype)
    return Knots(
        _positions(widths, bound),
        _positions(heights, bound),
        jnp.concatenate([ends, inner, ends], axis=-1),
    )


def _positions(raw: Array, bound: float) -> Array:
    """Knots from -bound to bound, their distances by a softmax with a floor."""
    share = MIN_SHARE + (1.0 - MIN_SHARE * raw.shape[-1]) * jax.nn.softmax(raw, axis=-1)
    # A sum over a triangle: cumsum would be a program of many steps.
    below = np.tril(np.ones((raw.shape[-1] - 1, raw.shape[-1]), bool))
    below = below.reshape((1,) * (raw.ndim - 1) + below.shape)
    sums = jnp.sum(jnp.where(below, share[..., None, :], 0.0), axis=-1)
    inner = bound * (2.0 * sums - 1.0)
    end = jnp.full((*raw.shape[:-1], 1), bound, raw.dtype)
    return jnp.concatenate([-end, inner, end], axis=-1)


def rational_quadratic(
    value: Array, raw: Array, bound: float, inverse: bool = False
) -> tuple[Array, Array]:
    """Applies the spline, or its inverse, to each element.

    Args:
      value: Numbers `[...]`; those outside [-bound, bound] stay as they are.
      raw: Parameters `[..., 3K - 1]`, see `knots`.
      bound: Half the width b of the interval (> 0).
      inverse: Whether to apply the inverse.

    Returns:
      The mapped numbers and the logarithm of the slope of the map that was applied, each `[...]`.
    """
    inside = jnp.abs(value) < bound
    # What lies outside is computed at the end of the interval, so that no gradient is NaN.
    clipped = jnp.clip(value, -bound, bound)
    x0, x1, y0, y1, d0, d1 = _bin_of(clipped, knots(raw, bound), inverse)
    s = (y1 - y0) / (x1 - x0)
    if inverse:
        t, u = _inverse_position((clipped - y0) / (y1 - y0), s, d0, d1)
        mapped = x0 + (x1 - x0) * t
    else:
        t, u = (clipped - x0) / (x1 - x0), (x1 - clipped) / (x1 - x0)
        mapped = y0 + (y1 - y0) * t * (s * t + d0 * u) / _denominator(t, u, s, d0, d1)
    log_slope = (
        2.0 * jnp.log(s)
        + jnp.log(d1 * t**2 + 2.0 * s * t * u + d0 * u**2)
        - 2.0 * jnp.log(_denominator(t, u, s, d0, d1))
    )
    log_slope = -log_slope if inverse else log_slope
    return jnp.where(inside, mapped, value), jnp.where(inside, log_slope, 0.0)


def _denominator(t: Array, u: Array, s: Array, d0: Array, d1: Array) -> Array:
    return s * (t**2 + u**2) + (d0 + d1) * t * u


def _inverse_position(v: Array, s: Array, d0: Array, d1: Array) -> tuple[Array, Array]:
    """The position t in the bin at which the height is v, and 1 - t."""
    r = d0 * (1.0 - v) - d1 * v
    middle = 4.0 * s**2 * v * (1.0 - v)
    root = jnp.sqrt(r**2 + middle)
    rising = r >= 0
    q = jnp.where(rising, r + root, middle / jnp.where(rising, 1.0, root - r))
    total = 2.0 * s * v + q
    return 2.0 * s * v / total, q / total


def _bin_of(value: Array, spline: Knots, inverse: bool) -> tuple[Array, ...]:
    """Both ends of the bin that holds each value, and the slopes there."""
    edges = spline.y if inverse else spline.x
    index = jnp.sum(value[..., None] >= edges[..., 1:-1], axis=-1)
    here = index[..., None] == jnp.arange(edges.shape[-1] - 1).reshape((1,) * index.ndim + (-1,))
    ends = (spline.x[..., :-1], spline.x[..., 1:], spline.y[..., :-1], spline.y[..., 1:])
    slopes = (spline.slope[..., :-1], spline.slope[..., 1:])
    return tuple(jnp.sum(jnp.where(here, a, 0.0), axis=-1) for a in (*ends, *slopes))
