"""Gamma draws for whole arrays at once, and their gradient towards the concentration.

    alpha >= 1:   d = alpha - 1/3,  v = (1 + x / (3 sqrt(d)))^3 for normal x and uniform u;  d v is
                  accepted if v > 0 and log u < x^2 / 2 + d (1 - v + log v)
    alpha < 1:    gamma(alpha + 1) times u^(1 / alpha)

    d log z / d alpha = -dF(z; alpha) / d alpha / (z f(z; alpha)),   f, F of Gamma(alpha, 1)

Twin: `torch_ref/distributions/gamma_draws.py`. Source: Marsaglia & Tsang, "A simple method for
generating gamma variables" (ACM TOMS 26, 2000); Figurnov, Mohamed & Mnih, "Implicit
reparameterization gradients" (NeurIPS 2018), eq. 6.
"""

import functools
import math

import jax
import jax.numpy as jnp

from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.special import (
    digamma_minus_log,
    expm1_minus,
    is_double,
    log1p_minus,
    log_ratio,
    recomputed,
)
from jaxprob.distributions.tails import tail_rule
from jaxprob.types import Array, Key

__all__ = ["gamma_draws", "log_gamma_draws"]

REJECTED = 0.0484  # the largest share, that of alpha = 1


def gamma_draws(key: Key, a: Array) -> Array:
    """Draws from Gamma(a, 1), with pathwise gradients.

    Args:
      key: A PRNG key.
      a: Concentrations (> 0) `[*shape]`; each element is a draw of its own.

    Returns:
      Draws `[*shape]`; 0 where they are below the smallest number, NaN where a is no concentration.
    """
    return _with_slope(a, _draw(key, jax.lax.stop_gradient(a), False))


def log_gamma_draws(key: Key, a: Array) -> Array:
    """Draws the logarithms of the same numbers, which do not underflow for small a.

    Args:
      key: A PRNG key.
      a: Concentrations (> 0) `[*shape]`.

    Returns:
      Logarithms `[*shape]`.
    """
    return _log_with_slope(a, _draw(key, jax.lax.stop_gradient(a), True))


@functools.partial(jax.jit, static_argnums=2)  # else each step of an eager draw is a program
def _draw(key: Key, a: Array, logarithm: bool) -> Array:
    small = a < 1.0
    draw_key, boost_key = jax.random.split(key)
    alpha = jnp.where(a >= 0.0, jnp.where(small, a + 1.0, a), jnp.nan)
    d = (alpha - 1.0 / 3.0).reshape(-1)
    drawn = (d * first_accepted(_propose, REJECTED, draw_key, d)).reshape(a.shape)
    drawn = jnp.log(drawn) if logarithm else drawn

    def boosted(drawn: Array) -> Array:
        log_boost = -jax.random.exponential(boost_key, a.shape, a.dtype) / a
        return jnp.where(
            small, drawn + log_boost if logarithm else drawn * jnp.exp(log_boost), drawn
        )

    # Most arrays have none to boost, and their draw then takes half the time.
    return jax.lax.cond(jnp.any(small), boosted, lambda drawn: drawn, drawn)


def _propose(u: Array, level: Array, d: Array) -> tuple[Array, Array]:
    """Returns v, and whether it is accepted: always if d is no number, else no loop would end."""
    x = math.sqrt(2.0) * jax.lax.erf_inv(2.0 * u - 1.0)
    e = x * (jax.lax.rsqrt(d) / 3.0)
    negative = e <= -1.0
    e = jnp.where(negative, 0.0, e)
    # 1 - v + log v for v = (1 + e)^3, in which d would make rounding large
    curve = 3.0 * log1p_minus(e) - e * e * (3.0 + e)
    return (1.0 + e) ** 3, ~(negative | (jnp.log(level) >= 0.5 * x * x + d * curve))


@jax.custom_jvp
def _with_slope(a: Array, z: Array) -> Array:
    del a
    return z


@_with_slope.defjvp
def _with_slope_jvp(primals, tangents):
    (a, z), (dot, _) = primals, tangents
    positive = jnp.where(z > 0.0, z, 1.0)
    return z, dot * z * log_slope(a, positive, jnp.log(positive))


@jax.custom_jvp
def _log_with_slope(a: Array, log_z: Array) -> Array:
    del a
    return log_z


@_log_with_slope.defjvp
def _log_with_slope_jvp(primals, tangents):
    (a, log_z), (dot, _) = primals, tangents
    return log_z, dot * log_slope(a, jnp.exp(log_z), log_z)


def log_slope(a: Array, z: Array, log_z: Array) -> Array:
    """Returns d log z / d a at a fixed probability F(z; a).

    With u = log t the distribution is exp(a u - e^u) / Gamma(a), its gradient towards a has the
    factor u - psi(a), and that integrates to 0: the tail on either side will do.

        z <= 1:  e^z sum_k (-z)^k / k! (c / (a + k) + 1 / (a + k)^2),   c = psi(a) - log z
        else     integral_0^inf (t - s c) exp(-z (e^(s t) - 1 - s t) - s (z - a) t) dt

    with s = 1 for the upper tail and -1 for the lower, by Gauss and Legendre's rule up to where
    nothing is left.

    Args:
      a: Concentrations `[...]`.
      z: Draws `[...]`; may be 0 where only their logarithm is a number.
      log_z: Their logarithms `[...]`.

    Returns:
      Gradients `[...]`.
    """
    shape = jnp.broadcast_shapes(a.shape, z.shape, log_z.shape)
    # Flat, since loops over a short last axis are not vectorised.
    a, z, log_z = (jnp.broadcast_to(v, shape).reshape(-1) for v in (a, z, log_z))
    small = a < 1.0
    psi = digamma_minus_log(jnp.where(small, a + 1.0, a))
    above_one = psi + jnp.log1p(a) - log_z  # psi(a + 1) - log z, for a < 1
    ratio = log_ratio(jnp.maximum(z, jnp.finfo(z.dtype).tiny), a)
    c = jnp.where(small, above_one - 1.0 / a, psi - jnp.where(z > 0.0, ratio, log_z - jnp.log(a)))
    first = jnp.where(small, above_one, c + 1.0 / a) / a
    gradient = jnp.where(z <= 1.0, _series(a, jnp.minimum(z, 1.0), c, first), _quadrature(a, z, c))
    return gradient.reshape(shape)


def _series(a: Array, z: Array, c: Array, first: Array) -> Array:
    power, total = jnp.ones_like(z), first
    for k in range(1, 19 if is_double(z) else 11):
        power = power * (-z / k)
        inverse = 1.0 / (a + k)
        total = total + power * inverse * (c + inverse)
    return jnp.exp(z) * total


def _quadrature(a: Array, z: Array, c: Array) -> Array:
    z = jnp.maximum(z, 1.0)
    above = z > a - 0.7 * jnp.sqrt(a)  # the upper tail ends sooner and is smoother
    sign = jnp.where(above, 1.0, -1.0)
    gap = sign * (z - a)
    # The exponent is at least gap t + curve t^2, below a up to t = 1, and there a line afterwards.
    nodes, weights, largest = tail_rule(z)
    curve = z * jnp.where(above, 1.0 / 2.0, 1.0 / 3.0)
    end = 2.0 * largest / (gap + jnp.sqrt(gap * gap + 4.0 * curve * largest))
    line = jnp.maximum(1.0, (largest + z) / a)
    exponential = jnp.log(2.0 * largest / z + 3.0)
    end = recomputed(
        jnp.where(above, jnp.minimum(end, exponential), jnp.where(end > 1.0, line, end))
    )
    total = jnp.zeros_like(z)
    for node, weight in zip(nodes, weights, strict=True):  # one loop over the elements, not 14
        t = end * node
        exponent = z * expm1_minus(sign * t) + gap * t
        total = total + weight * (t - sign * c) * jnp.exp(-exponent)
    return end * total
