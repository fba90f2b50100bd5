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

from jaxprob.distributions.inversion import inverted_counts, small_or_large
from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.special import poisson_log_density
from jaxprob.types import Array, Key

__all__ = ["poisson_draws"]

REJECTED = 0.26


@jax.jit  # else each step of an eager draw is a program
def poisson_draws(key: Key, rate: Array) -> Array:
    """Draws counts.

    Args:
      key: A PRNG key.
      rate: Means (>= 0) `[*shape]`.

    Returns:
      Counts `[*shape]` as numbers of the type of `rate`; NaN where that is no rate.
    """
    small_key, large_key = jax.random.split(key)
    flat = jnp.where(rate >= 0.0, rate, jnp.nan).reshape(-1)

    def inverted(small: Array) -> Array:
        few = jnp.where(small, flat, 0.0)
        return inverted_counts(small_key, -few, lambda j: few * (1 / j))

    def rejected(small: Array) -> Array:
        # What is no number is accepted at once.
        return first_accepted(_propose, REJECTED, large_key, jnp.where(small, jnp.nan, flat))

    return small_or_large(flat, inverted, rejected).reshape(rate.shape)


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
