"""Draws of small counts by inversion, for whole arrays at once.

    k = the number of j >= 1 with w < P(X >= j), for uniform w

Twin: `torch_ref/distributions/inversion.py`. Source: Devroye, "Non-Uniform Random Variate
Generation" (1986), section III.2.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxprob.distributions.special import is_double
from jaxprob.types import Array, Key

__all__ = ["inverted_counts", "small_or_large"]

SMALL = 10.0


def small_or_large(
    mean: Array, inverted: Callable[[Array], Array], rejected: Callable[[Array], Array]
) -> Array:
    """Draws small counts in one way and the others in another; a way that none needs is not run.

    Args:
      mean: Means `[N]`, small below 10; NaN where there is none.
      inverted: Takes whether the mean is small `[N]`; returns counts `[N]` that hold where it is.
      rejected: Takes the same; returns counts `[N]` that hold where the mean is not small.
    """
    small = mean < SMALL
    few = jax.lax.cond(jnp.any(small), inverted, lambda _: jnp.zeros_like(mean), small)
    return jax.lax.cond(jnp.all(small), lambda: few, lambda: jnp.where(small, few, rejected(small)))


def inverted_counts(key: Key, log_none: Array, ratio: Callable[[int], Array]) -> Array:
    """Draws counts with a mean below 10 and a tail no heavier than the Poisson's.

    In float32 the probability of a count holds to 2e-7 absolutely.

    Args:
      key: A PRNG key.
      log_none: log P(X = 0) `[N]`.
      ratio: j -> P(X = j) / P(X = j - 1) `[N]`, falling in j.

    Returns:
      Counts `[N]` as numbers of the type of `log_none`.
    """
    coarse, fine = jax.random.split(key)
    dtype = log_none.dtype
    # The uniform numbers of JAX are multiples of eps; the tail of a small mean wants smaller ones.
    w = jax.random.uniform(coarse, log_none.shape, dtype)
    w = w + jax.random.uniform(fine, log_none.shape, dtype) * jnp.finfo(dtype).eps
    mass, tail = jnp.exp(log_none), -jnp.expm1(log_none)
    count = jnp.zeros_like(log_none)
    for j in range(1, 62 if is_double(log_none) else 38):
        count = count + (w < tail)  # P(X >= j)
        mass = mass * ratio(j)
        tail = tail - mass
        if j > SMALL:
            # What is left of the subtractions is rounding in the end; the masses are exact.
            following = ratio(j + 1)
            tail = jnp.minimum(tail, mass * following / (1.0 - following))
    return count
