"""The von Mises distribution over angles.

    log p(x) = k cos(x - loc) - log(2 pi I0(k)) = -2 k sin((x - loc) / 2)^2 - log(2 pi i0e(k))

The second form has no large terms that cancel, and holds at k = 0, where it is uniform.

Twin: `torch_ref/distributions/von_mises.py`. Source: Mardia & Jupp, "Directional Statistics"
(2000), section 3.5.4.
"""

import math
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import constraints
from jaxprob.distributions.bessel import log_i0e, mean_resultant_gap
from jaxprob.distributions.tails import Tails, lower_half, panels
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.distributions.von_mises_draws import von_mises_draws
from jaxprob.types import Array, Key, Numbers

__all__ = ["VonMises"]


class VonMises(Univariate, distrax.VonMises):
    """Von Mises distribution, the normal distribution of the circle.

    Draws and quantiles lie within pi of `loc`, and the cdf counts from loc - pi; the density is
    periodic and takes any angle. `mean` is the direction and `variance` the circular variance
    1 - E cos(x - loc), as in torch.distributions.

    From distrax: `prob`.

    Args:
      loc: Mean direction in radians.
      concentration: k (>= 0); 1 / k is about the variance for large k.
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.non_negative}
    reparameterized = True
    periodic = True

    def __init__(self, loc: Numbers, concentration: Numbers):
        self._set(loc=loc, concentration=concentration)

    loc = parameter("loc", "Mean direction `[*batch]`.")
    concentration = parameter("concentration", "Concentration `[*batch]`.")

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        return parameters[0] - math.pi, parameters[0] + math.pi

    def _inner_point(self, *parameters: Array) -> Any:
        return parameters[0]

    def _log_density(self, x: Array, loc: Array, concentration: Array) -> Array:
        return _log_density(x - loc, concentration)

    def _gradients(self, x: Array, loc: Array, concentration: Array) -> tuple[Array, ...]:
        half = jnp.sin(0.5 * (x - loc))
        to_x = -concentration * jnp.sin(x - loc)
        return to_x, -to_x, mean_resultant_gap(concentration) - 2.0 * half**2

    def _tails(self, x: Array, loc: Array, concentration: Array) -> Tails:
        x, loc, concentration = jnp.broadcast_arrays(x, loc, concentration)
        z = jnp.minimum(-lower_half(x - loc), math.pi)
        return Tails(_log_tail(z, concentration), x <= loc)

    def _drifts(self, x: Array, loc: Array, concentration: Array) -> tuple[Array | None, ...]:
        return jnp.ones_like(loc), None

    def _sample_n(self, key: Key, n: int) -> Array:
        k = jnp.broadcast_to(self._concentration, (n, *self.batch_shape))
        return self._loc[None] + von_mises_draws(key, k)

    def mean(self) -> Array:
        """Returns loc, the mean direction."""
        return self._loc

    def mode(self) -> Array:
        """Returns loc."""
        return self._loc

    def median(self) -> Array:
        """Returns loc."""
        return self._loc

    def variance(self) -> Array:
        """Returns the circular variance 1 - I1(k) / I0(k), between 0 and 1."""
        return mean_resultant_gap(self._concentration)

    def stddev(self) -> Array:
        """Returns the square root of the circular variance."""
        return jnp.sqrt(self.variance())

    def entropy(self) -> Array:
        """Returns log(2 pi I0(k)) - k I1(k) / I0(k)."""
        k = self._concentration
        return math.log(2 * math.pi) + log_i0e(k) + k * mean_resultant_gap(k)


@jax.custom_jvp
def _log_tail(z: Array, k: Array) -> Array:
    """Returns log P(X - loc > z) for 0 <= z <= pi."""
    area = jnp.sum(jnp.multiply(*_weighted_ratios(z, k)[:2]), axis=-1)
    # At the far side the area is 0; its logarithm is -inf with a gradient of 0.
    empty = area <= 0.0
    log_area = jnp.log(jnp.where(empty, 1.0, area))
    return jnp.minimum(jnp.where(empty, -jnp.inf, _log_density(z, k) + log_area), 0.0)


@_log_tail.defjvp
def _log_tail_jvp(primals, tangents):
    """With p the density and A the mean of the cosine, dT/dk is the integral of p (cos - A).

    It is taken from z on, or up to z with the other sign: over a half circle it is 0.
    """
    (z, k), (dz, dk) = primals, tangents
    log_tail = _log_tail(z, k)
    gone = log_tail == -jnp.inf
    gap = mean_resultant_gap(k)[..., None]
    weights, ratios, nodes = _weighted_ratios(z, k)
    area = jnp.where(gone, 1.0, jnp.sum(weights * ratios, axis=-1))
    far = gap - 2.0 * jnp.sin(0.5 * (z[..., None] + nodes)) ** 2
    beyond = jnp.sum(weights * ratios * far, axis=-1) / area
    rule = (jnp.asarray(v, z.dtype) for v in np.polynomial.legendre.leggauss(12))
    x, w = (0.5 * v.reshape((1,) * z.ndim + (-1,)) for v in rule)
    half = jnp.sin(0.5 * z[..., None] * (x + 0.5)) ** 2
    within = jnp.sum(w * jnp.exp(-2.0 * k[..., None] * half) * (gap - 2.0 * half), axis=-1)
    log_peak = _log_density(jnp.zeros_like(z), k) - jnp.where(gone, 0.0, log_tail)
    near = (z < 1.0) & (k * z * z < 1.0)
    to_k = jnp.where(near, -z * within * jnp.exp(jnp.where(near, log_peak, 0.0)), beyond)
    to_z = -1.0 / area
    to_z, to_k = (jnp.where(gone, 0.0, slope) for slope in (to_z, to_k))
    return log_tail, to_z * dz + to_k * dk


def _log_density(z: Array, k: Array) -> Array:
    return -2.0 * k * jnp.sin(0.5 * z) ** 2 - math.log(2 * math.pi) - log_i0e(k)


def _weighted_ratios(z: Array, k: Array) -> tuple[Array, Array, Array]:
    """Weights, p(z + s) / p(z) and the nodes s themselves, `[..., N]`, from z to pi."""
    # The density falls from z to pi on the length that its gradient and curvature give.
    gradient, curvature = k * jnp.sin(z), k * jnp.abs(jnp.cos(z))
    length = 2.0 / (gradient + jnp.sqrt(gradient**2 + 2.0 * curvature) + 1.0)
    nodes, weights = panels(length.dtype, length, math.pi - z)
    at = z[..., None]
    ratio = -2.0 * k[..., None] * jnp.sin(0.5 * nodes) * jnp.sin(at + 0.5 * nodes)
    return weights, jnp.exp(ratio), nodes
