"""Modified Bessel functions in the form in which the von Mises distribution needs them.

    log i0e(k) = log(I0(k) e^-k),   1 - I1(k) / I0(k) = 1 / (2 k) + ... for large k

Twin: `torch_ref/distributions/bessel.py`. Source: DLMF 10.40.1.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import i0e, i1e

from jaxprob.types import Array

__all__ = ["log_i0e", "mean_resultant_gap"]


@jax.custom_jvp
def log_i0e(k: Array) -> Array:
    """Returns log(I0(k) exp(-k)) for k >= 0; its gradient at 0 is -1 (XLA's is 0 there)."""
    return jnp.log(i0e(k))


@log_i0e.defjvp
def _log_i0e_jvp(primals, tangents):
    (k,), (dot,) = primals, tangents
    return log_i0e(k), -dot * mean_resultant_gap(k)


def mean_resultant_gap(k: Array) -> Array:
    """Returns 1 - I1(k) / I0(k), without cancellation for large k."""
    large = k > 40.0
    w = 1.0 / jnp.where(large, k, 40.0)
    series = jnp.zeros_like(w)
    for c in reversed(_gap_coefficients(16)):
        series = (series + c) * w
    small = jnp.where(large, 1.0, k)
    return jnp.where(large, series, 1.0 - i1e(small) / i0e(small))


def _gap_coefficients(count: int) -> list[float]:
    """Coefficients of 1 / k, 1 / k^2, ... from A' = 1 - A / k - A^2 with A = 1 - gap."""
    c = [0.5]
    for j in range(2, count + 1):
        square = sum(c[i] * c[j - 2 - i] for i in range(j - 1))
        c.append(0.5 * (square + (j - 2) * c[-1]))
    return c
