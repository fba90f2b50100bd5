"""Poisson draws for whole arrays at once.

    rate < 10:    by inversion: the number of j with w < P(X >= j), for uniform w
    rate >= 10:   Hoermann's transformed rejection with a table hat,
                  k = floor((2 a / (1/2 - |u|) + b) u + rate + 0.43) for u in (-1/2, 1/2)

At most a quarter of the proposals is rejected (at rate 10).

Twin: `torch_ref/distributions/poisson_draws.py`. Source: Hoermann, "The transformed rejection
method for generating Poisson random variables" (Insurance: Mathematics and Economics 12, 1993),
algorithm PTRS.
"""

import jax
import jax.numpy as jnp

from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.special import is_double, poisson_log_density
from jaxprob.types import Array, Key

__all__ = ["poisson_draws"]

SMALL = 10.0
REJECTED = 0.26


@jax.jit  # else each step of an eager draw is a program
def poisson_draws(key: Key, rate: Array) -> Array:
    """Draws counts.

    In float32 the probability of a count holds to 2e-7 absolutely.

    Args:
      key: A PRNG key.
      rate: Means (>= 0) `[*shape]`.

    Returns:
      Counts `[*shape]` as numbers of the type of `rate`; NaN where that is no rate.
    """
    small_key, large_key = jax.random.split(key)
    flat = jnp.where(rate >= 0.0, rate, jnp.nan).reshape(-1)
    small = flat < SMALL
    count = jax.lax.cond(
        jnp.any(small),
        lambda: _inverted(small_key, jnp.where(small, flat, 0.0)),
        lambda: jnp.zeros_like(flat),
    )

    def rejection() -> Array:
        drawn = first_accepted(_propose, REJECTED, large_key, jnp.where(small, SMALL, flat))
        return jnp.where(small, count, drawn)

    return jax.lax.cond(jnp.all(small), lambda: count, rejection).reshape(rate.shape)


def _inverted(key: Key, rate: Array) -> Array:
    coarse, fine = jax.random.split(key)
    dtype = rate.dtype
    # The uniform numbers of JAX are multiples of eps; the tail of a small rate wants smaller ones.
    w = jax.random.uniform(coarse, rate.shape, dtype)
    w = w + jax.random.uniform(fine, rate.shape, dtype) * jnp.finfo(dtype).eps
    mass, tail = jnp.exp(-rate), -jnp.expm1(-rate)
    count = jnp.zeros_like(rate)
    for j in range(1, 62 if is_double(rate) else 38):
        count = count + (w < tail)  # P(X >= j)
        mass = mass * rate / j
        tail = tail - mass
        if j > SMALL:
            # What is left of the subtractions is rounding in the end; the masses are exact.
            tail = jnp.minimum(tail, mass * rate / (j + 1.0 - rate))
    return count


def _propose(u: Array, v: Array, rate: Array) -> tuple[Array, Array]:
    """Returns a count, and whether it is accepted: always where the rate is no number."""
    u = u - 0.5
    b = 0.931 + 2.53 * jnp.sqrt(rate)
    a = -0.059 + 0.02483 * b
    near = 0.5 - jnp.abs(u)
    count = jnp.floor((2.0 * a / near + b) * u + rate + 0.43)
    quick = (near >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))
    outside = (count < 0.0) | ((near < 0.013) & (v > near))
    scale = 1.1239 + 1.1328 / (b - 3.4)
    log_density = poisson_log_density(jnp.maximum(count, 0.0), rate)
    above = jnp.log(v * scale / (a / near**2 + b)) > log_density
    return count, ~(outside | (above & ~quick))
