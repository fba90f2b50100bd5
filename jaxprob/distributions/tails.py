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
    binet_derivative_above_one,
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
    edges = (0.0, 0.5, 1.0, 1.6, 2.4, 3.3, 4.8, 8, 14, 24, 40) if double else (
        0.0, 0.4, 0.8, 1.2, 1.7, 2.5, 5, 9, 18)  # fmt: skip
    if room is not None:  # and the last panel reaches to it where the fall becomes slower
        edges = (0.0, 0.5, 1.0, 1.6, 2.5, 4, 7, 13, 23, 40, 100) if double else (
            0.0, 0.5, 1.0, 1.6, 2.5, 5, 9, 18, 50)  # fmt: skip
    ends = length[..., None] * jnp.asarray(edges, dtype).reshape((1,) * length.ndim + (-1,))
    if room is not None:
        ends = jnp.minimum(ends, room[..., None])
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
    x <= 2, where the tail is long and bends within s of 1, two series take the integral's place.

    Args:
      a: Concentration.
      x: Value, of the same shape.
      whole: Whether `a` is at least 1 everywhere.
    """
    if whole:
        return _gamma_tails_by_quadrature(a, x)
    short = (a < 1.0) & (x <= 2.0)
    series = _gamma_tails_by_series(jnp.where(short, a, 0.5), jnp.where(short, x, 0.5))
    area = _gamma_tails_by_quadrature(jnp.where(short, 1.0, a), jnp.where(short, 1.0, x))
    return Tails(
        jnp.where(short, series.log_tail, area.log_tail),
        jnp.where(short, series.is_lower, area.is_lower),
    )


def _gamma_tails_by_series(a: Array, x: Array) -> Tails:
    """The same for 0 < a < 1 and 0 <= x <= 2.

    P = x^a e^-x / Gamma(a + 1) sum_n x^n / ((a + 1) ... (a + n))
    Q = 1 - x^a / Gamma(a + 1) - x^a / Gamma(a + 1) sum_(n>0) a (-x)^n / (n! (a + n))

    Source: DLMF 8.7.1 and 8.7.3.
    """
    zero = x <= 0.0
    x = jnp.where(zero, 1.0, x)
    terms = 28 if is_double(x) else 14
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
    far = x > (4.0 / jnp.finfo(x.dtype).eps ** 2) * (1.0 + a)  # where the area is 1 / x
    x_in = jnp.where(inside & ~far, x, a)
    is_lower = x_in <= a
    sign = jnp.where(is_lower, -1.0, 1.0).astype(x_in.dtype)
    gap = a - x_in

    def log_ratio(s: Array) -> Array:
        y = sign[..., None] * s
        return gap[..., None] * y - x_in[..., None] * expm1_minus(y)

    area = integrate_tail(log_ratio, -sign * gap, x_in)
    held = jnp.where(inside, x, a)
    log_area = jnp.where(far, -jnp.log(held), jnp.log(area))
    log_density = -deviance(a, held) - binet(a) + 0.5 * jnp.log(a / (2 * math.pi))
    log_tail, is_lower = jnp.minimum(log_density + log_area, 0.0), is_lower & ~far
    return Tails(jnp.where(inside, log_tail, -jnp.inf), jnp.where(inside, is_lower, x <= 0.0))


def beta_tails(a: Array, b: Array, x: Array, y: Array | None = None) -> Tails:
    """Returns the tails of the beta distribution at `x` in [0, 1]; `y` is 1 - x if known better.

    The half x > 1/2 is mirrored: the lower tail of the mirrored variable is the upper tail of ours.
    Where the tail at the nearer end is long, since its concentration is below 1, a series takes the
    integral's place.
    """
    y = 1.0 - x if y is None else y
    dtype = jnp.result_type(a, b, x, y)
    a, b, x, y = (v.astype(dtype) for v in (a, b, x, y))
    inside = (x > 0.0) & (y > 0.0)
    mirror = x > 0.5
    p = jnp.where(inside, jnp.where(mirror, y, x), 0.25)
    other = jnp.where(inside, jnp.where(mirror, x, y), 0.75)
    first, second = jnp.where(mirror, b, a), jnp.where(mirror, a, b)
    short = (first < 1.0) & (second * p <= 1.5)
    series = _beta_tails_by_series(
        jnp.where(short, first, 0.5), jnp.where(short, second, 1.0), jnp.where(short, p, 0.25)
    )
    safe = ((2.0, first), (2.0, second), (0.25, p), (0.75, other))
    area = _beta_tails_by_quadrature(*(jnp.where(short, inner, v) for inner, v in safe))
    log_tail = jnp.where(short, series.log_tail, area.log_tail)
    is_lower = jnp.where(short, series.is_lower, area.is_lower) != mirror
    return Tails(jnp.where(inside, log_tail, -jnp.inf), jnp.where(inside, is_lower, x <= 0.0))


def _beta_tails_by_series(a: Array, b: Array, x: Array) -> Tails:
    """The same for a < 1, 0 < x <= 1/2 and b x not much above 1.

    P = x^a / (a B(a, b)) (1 + a S),   S = sum_(n>0) (1 - b)_n / n! x^n / (a + n)

    in log P each term is a times a number, so that 1 - P keeps its digits as well: with psi the
    digamma function and t between 0 and 1

    -log(a B(a, b)) = a times the mean of psi(1 + b + a t) - psi(1 + a t), less log(1 + a / b).

    Source: DLMF 8.17.7.
    """
    nodes, weights = np.polynomial.legendre.leggauss(12 if is_double(x) else 6)
    column = (-1,) + (1,) * x.ndim
    steps, weights = (
        jnp.asarray(v, x.dtype).reshape(column) for v in (0.5 * (nodes + 1.0), 0.5 * weights)
    )
    steps, above = a[None] * steps, b[None] + 1.0
    ends = jnp.stack([above + steps, 1.0 + steps])
    digammas = binet_derivative_above_one(ends) - 0.5 / ends  # less the logarithms
    curve = jnp.log1p(steps / above) - jnp.log1p(steps) + digammas[0] - digammas[1]
    log_power = a * (jnp.log(x * above[0]) + jnp.sum(weights * curve, axis=0)) - jnp.log1p(a / b)
    log_lower = jnp.minimum(log_power + jnp.log1p(a * _power_series(a, b, x)), 0.0)
    is_lower = log_lower < -math.log(2)
    log_upper = log1mexp(jnp.where(is_lower, -1.0, log_lower))
    return Tails(jnp.where(is_lower, log_lower, log_upper), is_lower)


@jax.custom_jvp
def _power_series(a: Array, b: Array, x: Array) -> Array:
    """Returns sum_(n>0) (1 - b)_n / n! x^n / (a + n)."""
    return _power_series_and_slopes(a, b, x)[0]


@_power_series.defjvp
def _power_series_jvp(primals, tangents):
    a, b, x = primals
    da, db, dx = tangents
    series, to_a, to_b = _power_series_and_slopes(a, b, x)
    to_x = (expm1((b - 1.0) * jnp.log1p(-x)) - a * series) / x
    return series, to_a * da + to_b * db + to_x * dx


def _power_series_and_slopes(a: Array, b: Array, x: Array) -> tuple[Array, Array, Array]:
    """The series and its derivatives towards a and b, by Horner's scheme."""
    terms = 54 if is_double(x) else 25

    def extend(i: Array, sums: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        n = jnp.asarray(terms - i, x.dtype)
        total, to_a, to_b = sums
        total, own = total + 1.0 / (a + n), total + 1.0 / (a + n)
        factor = x * (1.0 - b / n)
        to_b = factor * to_b - (x / n) * own
        return factor * total, factor * (to_a - 1.0 / (a + n) ** 2), to_b

    zero = jnp.zeros_like(x)
    return jax.lax.fori_loop(0, terms, extend, (zero, zero, zero))


def _beta_tails_by_quadrature(a: Array, b: Array, x: Array, y: Array) -> Tails:
    """The same for 0 < x <= 1/2 and y = 1 - x.

    In u = logit x: log f(u +- s) - log f(u) = +-a s - (a + b) log(1 + x (exp(+-s) - 1)), of which
    the part linear in s is split off without cancellation.
    """
    total = a + b
    gap = a * y - b * x  # a (1 - x) - b x, which is (a + b)(mean - x)
    # Not by the sign of the gap: XLA may compute it twice, with and without a fused product, and
    # take it for a lower tail here and for an upper one there where x is next to the mean.
    is_lower = x <= a / total
    sign = jnp.where(is_lower, -1.0, 1.0).astype(x.dtype)

    def log_ratio(s: Array) -> Array:
        t = sign[..., None] * s
        small = jnp.abs(t) < 1.0
        t_in, t_out = jnp.where(small, t, 0.0), jnp.where(small, 1.0, t)
        w = x[..., None]
        near = log1p_minus(w * jnp.expm1(t_in)) + w * expm1_minus(t_in)
        # log(1 + w (e^t - 1)) = t + log(w + (1 - w) e^-t) where e^t would overflow
        huge = t_out > 60.0
        decay = jnp.exp(-jnp.where(huge, t_out, 60.0))
        far = jnp.where(
            huge,
            t_out + jnp.log(w + y[..., None] * decay),
            jnp.log1p(w * jnp.expm1(jnp.where(huge, 1.0, t_out))),
        )
        bend = jnp.where(small, near, far - w * t)
        return gap[..., None] * t - total[..., None] * bend

    area = integrate_tail(log_ratio, jnp.maximum(-sign * gap, 0.0), total * x * y)
    log_density = (
        -deviance(a, total * x)
        - deviance(b, total * y)
        - (binet(a) + binet(b) - binet(total))
        + 0.5 * (jnp.log(a) + jnp.log(b / total) - math.log(2 * math.pi))
    )
    return Tails(jnp.minimum(log_density + jnp.log(area), 0.0), is_lower)
