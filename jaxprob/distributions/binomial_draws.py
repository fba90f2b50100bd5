"""Binomial draws for whole arrays at once.

Of the two outcomes the rarer is counted, with probability r <= 1/2; the other has the rest.

    n r < 10:    by inversion, P(X = j) / P(X = j - 1) = (n - j + 1) r / (j (1 - r))
    n r >= 10:   Hoermann's transformed rejection with a table hat,
                 k = floor((2 a / (1/2 - |u|) + b) u + n r + 1/2) for u in (-1/2, 1/2)

At most 29.1 % of the proposals are rejected (at n = 20, r = 1/2).

Twin: `torch_ref/distributions/binomial_draws.py`. Source: Hoermann, "The generation of binomial
random variates" (Journal of Statistical Computation and Simulation 46, 1993), algorithm BTRS.
"""

import jax
import jax.numpy as jnp

from jaxprob.distributions.inversion import inverted_counts, small_or_large
from jaxprob.distributions.logits import binomial_log_density
from jaxprob.distributions.rejection import first_accepted
from jaxprob.distributions.special import log1p
from jaxprob.types import Array, Key

__all__ = ["binomial_draws"]

REJECTED = 0.3


@jax.jit  # else each step of an eager draw is a program
def binomial_draws(key: Key, total_count: Array, p: Array, q: Array) -> Array:
    """Draws numbers of successes.

    Args:
      key: A PRNG key.
      total_count: Numbers of trials n, integers >= 0, `[*shape]`.
      p: Probabilities of a success `[*shape]`.
      q: Probabilities of a failure `[*shape]`, 1 - p with its own digits.

    Returns:
      Counts `[*shape]` in [0, n] as numbers of the type of `total_count`; NaN where that is no
      whole finite number or p and q are no probabilities.
    """
    small_key, large_key = jax.random.split(key)
    valid = (total_count >= 0.0) & (total_count == jnp.floor(total_count)) & (p >= 0.0) & (q >= 0.0)
    n = jnp.where(valid & jnp.isfinite(total_count), total_count, jnp.nan).reshape(-1)
    rare, common = jnp.minimum(p, q).reshape(-1), jnp.maximum(p, q).reshape(-1)

    def inverted(small: Array) -> Array:
        trials = jnp.where(small, n, 0.0)
        log_none, held = trials * log1p(-rare), rare / common
        count = inverted_counts(small_key, log_none, lambda j: (trials - (j - 1)) * held * (1 / j))
        return jnp.minimum(count, trials)

    def rejected(small: Array) -> Array:
        # What is no number is accepted at once.
        large = jnp.where(small, jnp.nan, n)
        at_mode = _log_density(jnp.floor((n + 1.0) * rare), n, rare)
        return first_accepted(_propose, REJECTED, large_key, large, rare, at_mode)

    count = small_or_large(n * rare, inverted, rejected).reshape(total_count.shape)
    return jnp.where(p > q, total_count - count, count)


def _propose(u: Array, v: Array, n: Array, r: Array, at_mode: Array) -> tuple[Array, Array]:
    """Returns a count, and whether it is accepted: always where n is no number."""
    u = u - 0.5
    spread = jnp.sqrt(n * r * (1.0 - r))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * r
    near = 0.5 - jnp.abs(u)
    count = jnp.floor((2.0 * a / near + b) * u + n * r + 0.5)
    quick = (near >= 0.07) & (v <= 0.92 - 4.2 / b)
    outside = (count < 0.0) | (count > n)
    scale = (2.83 + 5.1 / b) * spread
    density = _log_density(count, n, r) - at_mode
    above = jnp.log(v * scale / (a / near**2 + b)) > density
    return count, ~(outside | (above & ~quick))


def _log_density(k: Array, n: Array, r: Array) -> Array:
    log_r, log_rest = jnp.log(r), log1p(-r)
    inner = jnp.clip(k, 1.0, n - 1.0)
    inside = binomial_log_density(inner, n - inner, (r, 1.0 - r, log_r, log_rest))
    return jnp.where(k <= 0.0, n * log_rest, jnp.where(k >= n, n * log_r, inside))
