"""The nearest of K code vectors, wherever the codes lie and however large the numbers are.

    k = argmin_j |e - c_j|^2

Written out, |c|^2 - 2 e . c is one matrix product, and wrong in its last digits: far from the
origin (or among clusters) these are all that tells codes apart. So the product only shortlists:
about the mean m of the codes,

    a_j = |c_j - m|^2 - 2 (e - m) . (c_j - m),   |error of a_j| <= u (|e - m|^2 + |c_j - m|^2)

holds with u a few units of rounding, and each code that may be the nearest has an a_j within twice
that of the smallest. Those codes, mostly one, are compared by their differences. Where more of them
remain than the list holds, all codes are.

Twin: `torch_ref/vae/nearest.py`, by differences alone.
"""

import jax
import jax.numpy as jnp

from jaxprob.types import AnyArray, Array

__all__ = ["nearest"]

SHORTLIST = 8
"""Codes that are compared by their differences where the product settles the others."""


@jax.jit
def nearest(encodings: AnyArray, codes: AnyArray) -> Array:
    """Returns the index of the nearest code, `[*B]`; the first of equals. It has no gradient.

    Args:
      encodings: e `[*B, C]`.
      codes: c `[K, C]`.
    """
    dtype = jnp.promote_types(jnp.result_type(encodings, codes), jnp.float32)
    e, c = (jax.lax.stop_gradient(jnp.asarray(a, dtype)) for a in (encodings, codes))
    flat = e.reshape(-1, e.shape[-1])
    if len(c) <= SHORTLIST:
        return _by_differences(flat, c[None]).reshape(e.shape[:-1])
    listed, settled = _shortlist(flat, c)
    among = jax.lax.cond(
        jnp.all(settled),
        lambda: jnp.take_along_axis(listed, _by_differences(flat, c[listed])[:, None], axis=-1)[
            :, 0
        ],
        lambda: _by_differences(flat, c[None]),
    )
    return among.reshape(e.shape[:-1])


def _by_differences(e: Array, codes: Array) -> Array:
    """The nearest among the codes of each row, `[N]`, of codes `[N, J, C]` or `[1, J, C]`.

    Rows are measured in their own unit, so that no square overflows or vanishes.
    """
    widest = jnp.max(jnp.abs(e[:, None] - codes), axis=-1)
    unit = jnp.maximum(jnp.min(widest, axis=-1), jnp.finfo(e.dtype).tiny)
    gaps = (e[:, None] - codes) / unit[:, None, None]
    return jnp.argmin(jnp.sum(gaps**2, axis=-1), axis=-1)


def _shortlist(e: Array, codes: Array) -> tuple[Array, Array]:
    """Candidates of each row in rising order `[N, J]`, and whether no other can be nearer `[N]`."""
    middle = jnp.mean(codes, axis=0, keepdims=True)
    e, codes = e - middle, codes - middle
    squares = jnp.sum(codes**2, axis=-1)
    product = jnp.matmul(e, codes.T, precision=jax.lax.Precision.HIGHEST)
    approximate = squares[None] - 2.0 * product
    smallest, listed = jax.lax.top_k(-approximate, SHORTLIST)
    limits = jnp.finfo(e.dtype)
    error = 2.0 * (e.shape[-1] + 4) * limits.eps * (jnp.sum(e**2, axis=-1) + jnp.max(squares))
    bound = -smallest[:, 0] + 2.0 * error + limits.tiny
    # what is no number, or has overflowed, settles nothing
    settled = (-smallest[:, -1] > bound) & jnp.isfinite(error)
    return jnp.sort(listed, axis=-1).astype(int), settled
