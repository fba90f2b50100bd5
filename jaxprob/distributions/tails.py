"""Probabilities of the two tails, with all digits in either.

A cdf near 1 has lost its upper tail, and the other way round. So every family states the tail that
it knows and on which side it lies, as a logarithm, and the four functions follow from that.

The incomplete gamma and beta functions have no closed form. In u = log x, or u = logit x, both
densities are log-concave and smooth, so the smaller tail is

    integral of f(u +- s) ds, s > 0   =   f(u) L integral of g(t) dt,   g(0) = 1, g(1) = 1 / e

for the length L on which f falls by a factor e. Gauss-Legendre panels in t then serve every
parameter from 1e-2 to 1e10 and every tail, and differentiate towards all arguments (XLA's own
`betainc` has no derivative towards a and b, and both are 4 digits wrong at a = 1000 in float32).

Twin: `torch_ref/distributions/tails.py`. Source: W. Press et al., "Numerical Recipes", 3rd ed.,
section 6.2 for quadrature in place of series.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.log_gamma import log_gamma_one_plus
from jaxprob.distributions.special import (
    binet,
    deviance,
    expm1,
    expm1_minus,
    is_double,
    log1mexp,
    log1p_minus,
)
from jaxprob.types import Array

__all__ = [
    "Tails",
    "beta_tails",
    "gamma_tails",
    "integrate_tail",
    "lower_half",
    "panels",
    "tail_rule",
]


class Tails(NamedTuple):
    """One tail of a distribution at a point.

    Attributes:
      log_tail: Log-probability of the tail.
      is_lower: Whether it is P(X <= x); else it is P(X > x).
    """

    log_tail: Array
    is_lower: Array | bool

    def lower(self) -> Array:
        """Returns P(X <= x)."""
        return jnp.where(self.is_lower, jnp.exp(self.log_tail), -expm1(self.log_tail))

    def upper(self) -> Array:
        """Returns P(X > x)."""
        return jnp.where(self.is_lower, -expm1(self.log_tail), jnp.exp(self.log_tail))

    def log_lower(self) -> Array:
        """Returns log P(X <= x)."""
        # the branch that is not taken has a gradient too
        other = jnp.where(self.is_lower, -1.0, self.log_tail)
        return jnp.where(self.is_lower, self.log_tail, log1mexp(other))

    def log_upper(self) -> Array:
        """Returns log P(X > x)."""
        other = jnp.where(self.is_lower, self.log_tail, -1.0)
        return jnp.where(self.is_lower, log1mexp(other), self.log_tail)


def lower_half(z: Array) -> Array:
    """Returns -|z| with gradient 1 at 0, where z counts as being in the lower half."""
    return jnp.where(z <= 0.0, z, -z)


def integrate_tail(log_ratio: Callable[[Array], Array], rate: Array, curvature: Array) -> Array:
    """Integrates exp(log_ratio(s)) over s > 0.

    Args:
      log_ratio: s -> log(f(u +- s) / f(u)), concave and falling; takes and returns `[..., N]`.
      rate: -d log_ratio / ds at 0, >= 0.
      curvature: -d^2 log_ratio / ds^2 at 0, >= 0.
    """
    rate, curvature = jax.lax.stop_gradient((rate, curvature))
    # Root of rate s + curvature s^2 / 2 = 1 to begin with, then Newton's method in log s.
    length = 2.0 / (rate + jnp.hypot(rate, jnp.sqrt(2.0 * curvature)))
    longest = 60.0 if jnp.finfo(length.dtype).nmant < 30 else 600.0
    length = jnp.minimum(length, jnp.maximum(1.0 / jnp.maximum(rate, 1e-30), longest))

    # A loop rather than eight copies of `log_ratio`: most of the time to compile went into them.
    fixed, constants = jax.closure_convert(log_ratio, length[..., None])
    constants = jax.lax.stop_gradient(constants)

    def fall(s: Array) -> Array:
        return -fixed(s[..., None], *constants)[..., 0]

    def improve(_, length: Array) -> Array:
        value, gradient = jax.jvp(fall, (length,), (jnp.ones_like(length),))
        usable = (value > 0) & (gradient > 0) & jnp.isfinite(value) & jnp.isfinite(gradient)
        value, gradient = jnp.where(usable, value, 1.0), jnp.where(usable, gradient, 1.0)
        step = jnp.where(usable, jnp.log(value) * value / (length * gradient), 0.7)
        return length * jnp.exp(-jnp.clip(step, -5.0, 5.0))

    length = jax.lax.stop_gradient(jax.lax.fori_loop(0, 8, improve, length))
    nodes, weights = panels(length.dtype, length)
    return jnp.sum(weights * jnp.exp(log_ratio(nodes)), axis=-1)


def panels(dtype, length: Array, room: Array | None = None) -> tuple[Array, Array]:
    """Returns Gauss-Legendre nodes and weights `[..., N]` for a function that falls on `length`.

    Args:
      dtype: Of the result.
      length: On which the function falls by about a factor e.
      room: Where to stop; without it, where nothing is left in this dtype.
    """
    double = jnp.finfo(dtype).nmant > 30
    x, w = (jnp.asarray(v, dtype) for v in np.polynomial.legendre.leggauss(10 if double else 8))
    edges = (0.0, 0.4, 0.8, 1.2, 1.7, 2.5, 4, 7, 13, 23, 40) if double else (
        0.0, 0.4, 0.8, 1.2, 1.7, 2.5, 5, 9, 18)  # fmt: skip
    ends = length[..., None] * jnp.asarray(edges, dtype).reshape((1,) * length.ndim + (-1,))
    if room is not None:
        ends = jnp.minimum(ends.at[..., -1].set(jnp.inf), room[..., None])
    low, half = ends[..., :-1, None], 0.5 * jnp.diff(ends, axis=-1)[..., None]
    shape = (*length.shape, -1)
    x, w = (v.reshape((1,) * (length.ndim + 1) + (-1,)) for v in (x, w))
    return (low + half * (1.0 + x)).reshape(shape), (half * w).reshape(shape)


def tail_rule(x: Array) -> tuple[list[float], list[float], float]:
    """Returns one Gauss-Legendre rule on [0, 1] for a tail that falls like a Gaussian's or faster.

    Returns:
      Nodes, weights, and the exponent x at whose exp(-x) the tail may end in the dtype of `x`.
    """
    return _TAIL_RULES[is_double(x)]


def _tail_rule(count: int, largest: float) -> tuple[list[float], list[float], float]:
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (0.5 * (nodes + 1.0)).tolist(), (0.5 * weights).tolist(), largest


_TAIL_RULES = {False: _tail_rule(14, 17.0), True: _tail_rule(36, 38.0)}


def gamma_tails(a: Array, x: Array, whole: bool = False) -> Tails:
    """Returns the tails of the gamma distribution with concentration `a` and rate 1 at `x` >= 0.

    In u = log x: log f(u +- s) - log f(u) = +-(a - x) s - x (exp(+-s) - 1 -+ s). For a < 1 and
    x <= 1, where the tail is long and bends within s of 1, two series take the integral's place.

    Args:
      a: Concentration.
      x: Value, of the same shape.
      whole: Whether `a` is at least 1 everywhere.
    """
    if whole:
        return _gamma_tails_by_quadrature(a, x)
    short = (a < 1.0) & (x <= 1.0)
    series = _gamma_tails_by_series(jnp.where(short, a, 0.5), jnp.where(short, x, 0.5))
    area = _gamma_tails_by_quadrature(jnp.where(short, 1.0, a), jnp.where(short, 1.0, x))
    return Tails(
        jnp.where(short, series.log_tail, area.log_tail),
        jnp.where(short, series.is_lower, area.is_lower),
    )


def _gamma_tails_by_series(a: Array, x: Array) -> Tails:
    """The same for 0 < a < 1 and 0 <= x <= 1.

    P = x^a e^-x / Gamma(a + 1) sum_n x^n / ((a + 1) ... (a + n))
    Q = 1 - x^a / Gamma(a + 1) - x^a / Gamma(a + 1) sum_(n>0) a (-x)^n / (n! (a + n))

    Source: DLMF 8.7.1 and 8.7.3.
    """
    zero = x <= 0.0
    x = jnp.where(zero, 1.0, x)
    terms = 20 if is_double(x) else 11
    rising, falling = jnp.ones_like(x), jnp.zeros_like(x)
    for n in range(terms, 0, -1):
        rising = 1.0 + rising * x / (a + n)
        falling = -(x / n) * (1.0 / (a + n) + falling)
    log_power = a * jnp.log(x) - log_gamma_one_plus(a)
    log_lower = log_power - x + jnp.log(rising)
    upper = -jnp.expm1(log_power) - jnp.exp(log_power) * a * falling
    is_lower = (upper > 0.5) | zero
    log_upper = jnp.log(jnp.where(is_lower, 0.5, upper))
    return Tails(jnp.where(zero, -jnp.inf, jnp.where(is_lower, log_lower, log_upper)), is_lower)


def _gamma_tails_by_quadrature(a: Array, x: Array) -> Tails:
    inside = (x > 0.0) & (x < jnp.inf)
    x_in = jnp.where(inside, x, a)
    is_lower = x_in <= a
    sign = jnp.where(is_lower, -1.0, 1.0).astype(x_in.dtype)
    gap = a - x_in

    def log_ratio(s: Array) -> Array:
        y = sign[..., None] * s
        return gap[..., None] * y - x_in[..., None] * expm1_minus(y)

    area = integrate_tail(log_ratio, -sign * gap, x_in)
    log_density = -deviance(a, x_in) - binet(a) + 0.5 * jnp.log(a / (2 * math.pi))
    log_tail = jnp.minimum(log_density + jnp.log(area), 0.0)
    return Tails(jnp.where(inside, log_tail, -jnp.inf), jnp.where(inside, is_lower, x <= 0.0))


def beta_tails(a: Array, b: Array, x: Array, y: Array | None = None) -> Tails:
    """Returns the tails of the beta distribution at `x` in [0, 1]; `y` is 1 - x if known better.

    In u = logit x: log f(u +- s) - log f(u) = +-a s - (a + b) log(1 + x (exp(+-s) - 1)). The half
    x > 1/2 is mirrored, so that the part linear in s can be split off without cancellation.
    """
    y = 1.0 - x if y is None else y
    inside = (x > 0.0) & (y > 0.0)
    total = a + b
    mean = a / total
    mirror = x > 0.5
    p = jnp.where(inside, jnp.where(mirror, y, x), 0.25)
    other = jnp.where(inside, jnp.where(mirror, x, y), 0.75)
    first, second = jnp.where(mirror, b, a), jnp.where(mirror, a, b)
    # The lower tail of the mirrored variable is the upper tail of ours.
    gap = first * other - second * p  # a (1 - x) - b x, which is (a + b)(mean - x)
    # Not by the sign of the gap: XLA may compute it twice, with and without a fused product, and
    # take it for a lower tail here and for an upper one there where x is next to the mean.
    below = p <= first / total
    sign = jnp.where(below, -1.0, 1.0).astype(p.dtype)
    is_lower = below != mirror

    def log_ratio(s: Array) -> Array:
        t = sign[..., None] * s
        small = jnp.abs(t) < 1.0
        t_in, t_out = jnp.where(small, t, 0.0), jnp.where(small, 1.0, t)
        w = p[..., None]
        near = log1p_minus(w * jnp.expm1(t_in)) + w * expm1_minus(t_in)
        # log(1 + w (e^t - 1)) = t + log(w + (1 - w) e^-t) where e^t would overflow
        huge = t_out > 60.0
        decay = jnp.exp(-jnp.where(huge, t_out, 60.0))
        far = jnp.where(
            huge,
            t_out + jnp.log(w + other[..., None] * decay),
            jnp.log1p(w * jnp.expm1(jnp.where(huge, 1.0, t_out))),
        )
        bend = jnp.where(small, near, far - w * t)
        return gap[..., None] * t - total[..., None] * bend

    area = integrate_tail(log_ratio, jnp.maximum(-sign * gap, 0.0), total * p * other)
    log_density = (
        -deviance(first, total * p)
        - deviance(second, total * other)
        - (binet(a) + binet(b) - binet(total))
        + 0.5 * jnp.log(mean * b / (2 * math.pi))
    )
    log_tail = jnp.minimum(log_density + jnp.log(area), 0.0)
    return Tails(jnp.where(inside, log_tail, -jnp.inf), jnp.where(inside, is_lower, x <= 0.0))
