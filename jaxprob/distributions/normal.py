"""The normal distribution.

    log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2

Twin: `torch_ref/distributions/normal.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 1, 2nd ed., ch. 13.
"""

import math

import distrax
import jax.numpy as jnp
from jax.scipy.special import ndtr, ndtri

from jaxprob.distributions import constraints
from jaxprob.distributions.gradients import normal_noise
from jaxprob.distributions.special import log_ndtr, standardize
from jaxprob.distributions.tails import Tails, lower_half
from jaxprob.distributions.univariate import Univariate
from jaxprob.types import Array, ArrayLike, Key, Numbers

__all__ = ["Normal"]


class Normal(Univariate, distrax.Normal):
    """Normal distribution over the real line.

    From distrax: `entropy`, `loc`, `mean`, `mode`, `scale`, `stddev`, `variance`.

    Args:
      loc: Mean, any shape, in the units of the event.
      scale: Standard deviation (> 0), any shape that broadcasts with `loc`.

    Raises:
      ValueError: A scale that is not positive, a NaN, or shapes that do not broadcast.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    reparameterized = True

    def __init__(self, loc: Numbers, scale: Numbers):
        self._set(loc=loc, scale=scale)

    def _log_density(self, x: Array, loc: Array, scale: Array) -> Array:
        z = standardize(x, loc, scale)
        return -0.5 * z**2 - jnp.log(scale) - 0.5 * math.log(2 * math.pi)

    def _inner_point(self, *parameters: Array) -> Array:
        return parameters[0]

    def _gradients(self, x: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
        z = standardize(x, loc, scale)
        # where z^2 overflows and the density is 0: in a mixture 0 times infinity would be NaN
        z, gone = jnp.where(z * z == jnp.inf, 0.0, z), z * z == jnp.inf
        return -z / scale, z / scale, jnp.where(gone, 0.0, (z - 1.0) * (z + 1.0) / scale)

    def _tails(self, x: Array, loc: Array, scale: Array) -> Tails:
        z = standardize(x, loc, scale)
        return Tails(log_ndtr(lower_half(z)), z <= 0.0)

    def _tail_probabilities(self, x: Array, loc: Array, scale: Array) -> tuple[Array, Array]:
        z = jnp.clip(standardize(x, loc, scale), -50.0, 50.0)  # beyond, nothing is left of a tail
        return ndtr(z), ndtr(-z)

    def _quantile(self, lower: Array, upper: Array, loc: Array, scale: Array) -> Array:
        small = lower < 0.5
        tail = ndtri(jnp.where(small, lower, upper))
        return loc + scale * jnp.where(small, tail, -tail)

    def _sample_from_std_normal(self, key: Key, n: int) -> Array:
        return normal_noise(key, (n, *self.batch_shape), self._loc.dtype)

    def from_standard_normal(self, z: ArrayLike) -> Array:
        """Returns loc + scale z."""
        z, loc, scale = self._aligned(jnp.asarray(z))
        return loc + scale * z

    def median(self) -> Array:
        """Returns the median, which is the mean."""
        return self._loc
