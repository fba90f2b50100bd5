"""The nearest of K code vectors, wherever the codes lie and however large the numbers are.

    k = argmin_j |e - c_j|^2

Written out, |c|^2 - 2 e . c is one matrix product, and wrong in its last digits: far from the
origin (or among clusters) these are all that tells codes apart. So the product only settles what it
can: about the mean m of the codes,

    a_j = |c_j - m|^2 - 2 (e - m) . (c_j - m),   |error of a_j| <= u (|e - m|^2 + |c_j - m|^2)

holds with u a few units of rounding, and where no other a_j is within twice that of the smallest,
it is the nearest. The rows that stay in doubt, mostly few, are compared with all codes by
differences; where they are many, all rows are.

Twin: `torch_ref/vae/nearest.py`, by differences alone.
"""

import jax
import jax.numpy as jnp

from jaxprob.types import AnyArray, Array

__all__ = ["nearest"]


@jax.jit
def nearest(encodings: AnyArray, codes: AnyArray) -> Array:
    """Returns the index of the nearest code, `[*B]`; the first of equals. It has no gradient.

    Args:
      encodings: e `[*B, C]`.
      codes: c `[K, C]`.
    """
    dtype = jnp.promote_types(jnp.result_type(encodings, codes), jnp.float32)
    e, c = (jax.lax.stop_gradient(jnp.asarray(a, dtype)) for a in (encodings, codes))
    rows = e.reshape(-1, e.shape[-1])
    guess, doubtful = _by_product(rows, c)
    few = max(len(rows) // 16, min(len(rows), 64))

    def mend() -> Array:
        (at,) = jnp.nonzero(doubtful, size=few, fill_value=len(rows))
        part = jnp.minimum(at, len(rows) - 1)
        found = _by_differences(rows[part], c, guess[part])
        return guess.at[at].set(found, mode="drop")

    found = jax.lax.cond(jnp.sum(doubtful) <= few, mend, lambda: _by_differences(rows, c, guess))
    return found.reshape(e.shape[:-1])


def _by_differences(e: Array, codes: Array, guess: Array) -> Array:
    """The nearest code of each row `[N]`.

    A row is measured in units of its distance to a guess, so that no square that counts overflows
    or vanishes.
    """
    unit = jnp.max(jnp.abs(e - codes[guess]), axis=-1)
    unit = jnp.maximum(unit, jnp.finfo(e.dtype).tiny)
    gaps = (e[:, None] - codes[None]) / unit[:, None, None]
    return jnp.argmin(jnp.sum(gaps**2, axis=-1), axis=-1)


def _by_product(e: Array, codes: Array) -> tuple[Array, Array]:
    """The code of the smallest a_j of each row `[N]`, and whether another may be nearer `[N]`."""
    middle = jnp.mean(codes, axis=0, keepdims=True)
    e, codes = e - middle, codes - middle
    squares = jnp.sum(codes**2, axis=-1)
    product = jnp.matmul(e, codes.T, precision=jax.lax.Precision.HIGHEST)
    approximate = squares[None] - 2.0 * product
    smallest = jnp.min(approximate, axis=-1)
    limits = jnp.finfo(e.dtype)
    error = 2.0 * (e.shape[-1] + 4) * limits.eps * (jnp.sum(e**2, axis=-1) + jnp.max(squares))
    bound = smallest + 2.0 * error + limits.tiny
    close = jnp.sum(approximate <= bound[:, None], axis=-1)
    # what is no number, or has overflowed, settles nothing
    settled = (close == 1) & jnp.isfinite(error)
    return jnp.argmin(approximate, axis=-1), ~settled
