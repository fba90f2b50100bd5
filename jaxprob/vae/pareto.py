"""Can importance weights be trusted? The shape of their tail.

Above a high threshold weights follow a generalised Pareto distribution,

    p(w - u) = (1 + k (w - u) / s)^(-1 / k - 1) / s

whose moments of order 1 / k and above do not exist. So the largest M of S weights are fitted, and

    k < min(1 - 1 / log10 S, 0.7)

is asked of an average whose error may be believed: at k = 1/2 its variance is infinite, at 1 its
mean is.

Twin: `torch_ref/vae/pareto.py`. Sources: Zhang & Stephens, "A new and efficient estimation method
for the generalized Pareto distribution" (2009), eqs. 7-9; Vehtari, Simpson, Gelman, Yao & Gabry,
"Pareto smoothed importance sampling" (2024), sections 3.2 (threshold) and appendix C (the weak
prior on k, ten observations of 1/2).
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.types import Array

__all__ = ["largest_reliable", "tail_shape", "tail_size"]

FEWEST = 5
"""Weights in the tail below which nothing can be said of it."""


def tail_size(num: int) -> int:
    """Returns how many of `num` weights are in the tail."""
    return math.ceil(min(0.2 * num, 3.0 * math.sqrt(num)))


def largest_reliable(num: int) -> float:
    """Returns the k up to which the average of `num` weights may be believed."""
    return min(1.0 - 1.0 / math.log10(max(num, 2)), 0.7)


def tail_shape(largest: Array) -> Array:
    """Returns k of each row `[B]`, NaN where the tail is too short to tell.

    Weights that differ by rounding alone have no tail, and k = 0.

    Args:
      largest: The log-weights of the tail and, last, the threshold below them, `[M + 1, B]`,
        falling.
    """
    size = largest.shape[0] - 1
    if size < FEWEST:
        return jnp.full(largest.shape[1:], jnp.nan, largest.dtype)
    scaled = jnp.exp(largest - largest[:1])
    # a weight that vanishes beside the largest still stands above the threshold
    tail = jnp.maximum(scaled[:-1] - scaled[-1:], 1e-30)[::-1]
    resolution = 64.0 * jnp.finfo(tail.dtype).eps * jnp.maximum(jnp.abs(largest[0]), 1.0)
    found = jax.vmap(_shape, in_axes=-1)(tail)
    return jnp.where(largest[0] - largest[-1] <= resolution, 0.0, found)


def _shape(tail: Array) -> Array:
    """Shape of rising exceedances `[M]`: theta = -k / s is a mean over a grid, by likelihood."""
    size = tail.shape[0]
    number = 30 + math.isqrt(size)
    points = jnp.arange(1, number + 1, dtype=tail.dtype) - 0.5
    quartile = tail[math.floor(size / 4 + 0.5) - 1]
    theta = 1.0 / tail[-1] + (1.0 - jnp.sqrt(number / points)) / (3.0 * quartile)
    k = jnp.mean(jnp.log1p(-theta[:, None] * tail[None]), axis=-1)
    log_likelihood = size * (jnp.log(-theta / k) - k - 1.0)
    average = jnp.sum(jax.nn.softmax(log_likelihood) * theta)
    k = jnp.mean(jnp.log1p(-average * tail))
    return (size * k + 5.0) / (size + 10.0)
