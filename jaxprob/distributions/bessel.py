"""Modified Bessel functions in the form in which the von Mises distribution needs them.

    log i0e(k) = log(I0(k) e^-k),   1 - I1(k) / I0(k) = 1 / (2 k) + ... for large k

Twin: `torch_ref/distributions/bessel.py`. Source: DLMF 10.40.1.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import i0e, i1e

from jaxprob.distributions.special import is_double
from jaxprob.types import Array

__all__ = ["log_i0e", "log_i0_bregman", "mean_resultant", "mean_resultant_gap"]

# Nodes and weights of the integral of (1 - t) f(t) from 0 to 1.
_JACOBI = (
    (0.08858795951270393, 0.2009319137389596), (0.40946686444073477, 0.2292411063595862),
    (0.787659461760847, 0.06982697990145417),
)  # fmt: skip


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
    least = 40.0 if is_double(k) else 14.0
    large = k > least
    w = 1.0 / jnp.where(large, k, least)
    series = jnp.zeros_like(w)
    for c in reversed(_gap_coefficients(16)):
        series = (series + c) * w
    small = jnp.where(large, 1.0, k)
    return jnp.where(large, series, 1.0 - i1e(small) / i0e(small))


def mean_resultant(k: Array) -> Array:
    """Returns A(k) = I1(k) / I0(k), which is k / 2 for small k."""
    small = jnp.where(k > 1.0, 1.0, k)
    return jnp.where(k > 1.0, 1.0 - mean_resultant_gap(k), i1e(small) / i0e(small))


def log_i0_bregman(k: Array, to: Array) -> Array:
    """Returns log I0(to) - log I0(k) - (to - k) A(k), without cancellation for small steps."""
    step = to - k
    near = jnp.abs(step) < 0.01 * (1.0 + k)
    inner = jnp.where(near, step, 0.0)
    # step^2 times the integral of (1 - t) A'(k + t step): Gauss-Jacobi's rule of three nodes
    curve = sum(w * _slope(k + t * inner) for t, w in _JACOBI)
    far = log_i0e(to) - log_i0e(k) + step * mean_resultant_gap(k)
    return jnp.where(near, inner * inner * curve, far)


def _slope(k: Array) -> Array:
    """Returns A'(k) = 1 - A / k - A^2."""
    large, tiny = k > 10.0, k < 1e-4
    far = jnp.where(large, k, 10.0)
    fall = jax.jvp(mean_resultant_gap, (far,), (jnp.ones_like(far),))[1]
    small = jnp.where(large | tiny, 1.0, k)
    a = mean_resultant(small)
    inner = jnp.where(tiny, 0.5, 1.0 - a / small - a * a)
    return jnp.where(large, -fall, inner)


def _gap_coefficients(count: int) -> list[float]:
    """Coefficients of 1 / k, 1 / k^2, ... from A' = 1 - A / k - A^2 with A = 1 - gap."""
    c = [0.5]
    for j in range(2, count + 1):
        square = sum(c[i] * c[j - 2 - i] for i in range(j - 1))
        c.append(0.5 * (square + (j - 2) * c[-1]))
    return c
