"""Von Mises draws for whole arrays at once, and their gradient towards the concentration.

A wrapped Cauchy proposal, with z = cos(pi u) and the envelope's rho and q = k / (2 rho):

    1 - cos(theta) = (1 - rho)^2 (1 - z) / (1 + rho^2 + 2 rho z)
    c = q (1 - rho)^2 + k (1 - cos(theta));   accepted if log(c / u') + 1 - c >= 0

None of the differences cancels, for k from 0 up. At most 34.2 % are rejected (at
large k). The gradient at a fixed probability F is, with the density f and A(k) = I1(k) / I0(k),

    d theta / dk = -(dF / dk) / f,   dF / dk = integral_-pi^theta (cos(t) - A(k)) f(t) dt

and the integral over half the circle vanishes, so that a tail or the body from 0 will do.

Twin: `torch_ref/distributions/von_mises_draws.py`. Source: Best & Fisher, "Efficient simulation of
the von Mises distribution" (Applied Statistics 28, 1979); Figurnov, Mohamed & Mnih, "Implicit
reparameterization gradients" (NeurIPS 2018).
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.distributions.bessel import mean_resultant_gap
from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.special import recomputed
from jaxprob.distributions.tails import tail_rule
from jaxprob.types import Array, Key

__all__ = ["angle_slope", "von_mises_draws"]

REJECTED = 0.342  # the largest share, that of large k


def von_mises_draws(key: Key, k: Array) -> Array:
    """Draws angles around 0, with pathwise gradients.

    Args:
      key: A PRNG key.
      k: Concentrations (>= 0) `[*shape]`.

    Returns:
      Angles `[*shape]` in [-pi, pi]; NaN where k is no concentration, 0 where it is infinite.
    """
    return _with_slope(k, _draw(key, jax.lax.stop_gradient(k)))


@jax.jit  # else each step of an eager draw is a program
def _draw(key: Key, k: Array) -> Array:
    draw_key, sign_key = jax.random.split(key)
    flat = jnp.where(k >= 0.0, k, jnp.nan).reshape(-1)
    # Above, squares in the proposal leave the range of numbers, and all is normal: scale.
    used = jnp.minimum(flat, float(jnp.finfo(k.dtype).max) ** 0.75)
    angle = first_accepted(_propose, REJECTED, draw_key, used)
    angle = angle * jnp.where(flat > used, jnp.sqrt(used / flat), 1.0)
    positive = jax.random.uniform(sign_key, angle.shape, k.dtype) < 0.5
    return jnp.where(positive, angle, -angle).reshape(k.shape)


def _propose(u: Array, level: Array, k: Array) -> tuple[Array, Array]:
    """Returns |theta|, and whether it is accepted: always if k is no number, else no loop ends."""
    # 1 - rho cancels for large k, the other form for small k
    large = k > 1.0
    wide, narrow = jnp.where(large, k, 1.0), jnp.where(large, 1.0, k)
    inverse = 0.5 / wide
    root = jnp.where(
        large, 2.0 * wide * jnp.sqrt(1.0 + inverse**2), jnp.sqrt(1.0 + 4.0 * narrow**2)
    )
    tau_root = jnp.sqrt(1.0 + root)
    ratio = 1.0 + math.sqrt(2.0) / tau_root
    rho = 2.0 * k / ((root + 1.0) * ratio)
    q = 0.25 * ratio * (root + 1.0)
    apart = (math.sqrt(2.0) * tau_root - 1.0 - 1.0 / (root + 2.0 * wide)) * inverse
    one_minus_rho = jnp.where(large, apart, 1.0 - rho)
    half = jnp.sin(0.5 * math.pi * u) ** 2  # (1 - z) / 2
    divisor = one_minus_rho**2 + 4.0 * rho * (1.0 - half)  # 1 + rho^2 + 2 rho z
    far = one_minus_rho**2 * half / jnp.maximum(divisor, jnp.finfo(k.dtype).tiny)
    far = jnp.minimum(far, 1.0)  # (1 - cos(theta)) / 2
    c = q * one_minus_rho**2 + 2.0 * k * far
    return 2.0 * jnp.arcsin(jnp.sqrt(far)), ~(jnp.log(c / level) + 1.0 - c < 0.0)


@jax.custom_jvp
def _with_slope(k: Array, angle: Array) -> Array:
    del k
    return angle


@_with_slope.defjvp
def _with_slope_jvp(primals, tangents):
    (k, angle), (dot, _) = primals, tangents
    return angle, dot * angle_slope(k, angle)


def angle_slope(k: Array, angle: Array) -> Array:
    """Returns d angle / dk at a fixed probability.

    With t = theta + s and e(s) = cos(theta) - cos(t) = 2 sin(s / 2) sin(theta + s / 2),

        d theta / dk = integral (1 - A(k) - (1 - cos(theta)) - e) exp(-k e) ds

    over s from 0 to the end of the tail; over s from 0 to -theta for angles within a standard
    deviation or so, with the other sign.

    Args:
      k: Concentrations `[...]`.
      angle: Angles within pi of the mean `[...]`.

    Returns:
      Gradients `[...]`, odd in the angle.
    """
    shape = jnp.broadcast_shapes(k.shape, angle.shape)
    k, angle = (jnp.broadcast_to(v, shape).reshape(-1) for v in (k, angle))
    theta = jnp.minimum(jnp.abs(angle), math.pi)
    height = jnp.sin(0.5 * theta) ** 2
    nodes, weights, largest = tail_rule(k)
    in_tail = (2.0 * k * height > 1.0) | (height > 0.5)
    end = height + largest / (2.0 * jnp.maximum(k, 1e-3))
    last = jnp.where(end < 1.0, 2.0 * jnp.arcsin(jnp.sqrt(jnp.minimum(end, 1.0))), math.pi)
    length = recomputed(jnp.where(in_tail, last - theta, -theta))
    excess = recomputed(mean_resultant_gap(k) - 2.0 * height)
    total = jnp.zeros_like(k)
    for node, weight in zip(nodes, weights, strict=True):
        half = 0.5 * node * length
        e = 2.0 * jnp.sin(half) * jnp.sin(theta + half)
        total = total + weight * (excess - e) * jnp.exp(-k * e)
    return (jnp.sign(angle) * length * total).reshape(shape)
