"""log Gamma(1 + w) near w = 0, with all digits of what is left there.

    log Gamma(1 + w) = -log(1 + w) + (1 - gamma) w + sum_(j>1) (-1)^j (zeta(j) - 1) w^j / j

Source: DLMF 5.7.3. The twin calls torch's own log-gamma where it needs no more.
"""

import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.special import log1p, log_gamma
from jaxprob.types import Array

__all__ = ["log_gamma_curvature", "log_gamma_one_plus", "log_gamma_two_plus_minus"]

# zeta(j) - 1 for j = 2, 3, ...
_ZETAS = (
    0.644934066848226436, 0.202056903159594285, 0.0823232337111381915, 0.0369277551433699263,
    0.0173430619844491397, 0.00834927738192282684, 0.00407735619794433938, 0.00200839282608221442,
    0.000994575127818085337, 0.000494188604119464559, 0.000246086553308048299,
    0.000122713347578489147, 0.0000612481350587048293, 0.0000305882363070204936,
    0.0000152822594086518717, 7.63719763789976227e-6, 3.81729326499983986e-6,
    1.90821271655393893e-6, 9.53962033872796113e-7, 4.76932986787806463e-7, 2.3845050272773299e-7,
    1.19219925965311073e-7, 5.96081890512594796e-8, 2.98035035146522802e-8, 1.49015548283650412e-8,
    7.45071178983542949e-9, 3.72533402478845705e-9, 1.86265972351304901e-9,
)  # fmt: skip


def log_gamma_one_plus(w: Array) -> Array:
    """Returns log Gamma(1 + w) for w >= 0, which is -gamma w to first order."""
    near = w < 0.5
    v = jnp.where(near, w, 0.0)
    series = jnp.zeros_like(v)
    for j, zeta in reversed(list(enumerate(_ZETAS, start=2))):
        series = series * v + (-1) ** j * zeta / j
    inner = series * v * v + (1.0 - np.euler_gamma) * v - log1p(v)
    return jnp.where(near, inner, log_gamma(1.0 + jnp.where(near, 1.0, w)))


def log_gamma_curvature(w: Array) -> Array:
    """Returns log Gamma(1 + 2 w) - 2 log Gamma(1 + w), which is about zeta(2) w^2."""
    near = w < 0.25
    v = jnp.where(near, w, 0.0)
    series = jnp.zeros_like(v)
    for j, zeta in reversed(list(enumerate(_ZETAS, start=2))):
        series = series * v + (-1) ** j * zeta * (2.0**j - 2.0) / j
    series = series * v**2 - jnp.log1p(-((v / (1.0 + v)) ** 2))
    far = jnp.where(near, 1.0, w)
    return jnp.where(near, series, log_gamma(1.0 + 2.0 * far) - 2.0 * log_gamma(1.0 + far))


def log_gamma_two_plus_minus(w: Array) -> Array:
    """Returns log Gamma(2 + w) - (1 - gamma) w for w >= -1, which is about w^2 / 3 near 0."""
    near = jnp.abs(w) < 0.5
    v = jnp.where(near, w, 0.0)
    series = jnp.zeros_like(v)
    for j, zeta in reversed(list(enumerate(_ZETAS, start=2))):
        series = series * v + (-1) ** j * zeta / j
    far = jnp.where(near, 1.0, w)
    return jnp.where(near, series * v * v, log_gamma(2.0 + far) - (1.0 - np.euler_gamma) * far)
