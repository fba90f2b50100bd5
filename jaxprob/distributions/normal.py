"""The normal distribution.

    log p(x) = -(x - loc)^2 / (2 scale^2) - log scale - log(2 pi) / 2

Twin: `torch_ref/distributions/normal.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 1, 2nd ed., ch. 13.
"""

import math

import distrax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtr, ndtri

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.validation import align, as_parameters, check_values
from jaxprob.types import Array, ArrayLike

__all__ = ["Normal"]


class Normal(Distribution, distrax.Normal):
    """Normal distribution over the real line.

    Args:
      loc: Mean, any shape, in the units of the event.
      scale: Standard deviation (> 0), any shape that broadcasts with `loc`.

    Raises:
      ValueError: A scale that is not positive, a NaN, or shapes that do not broadcast.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    reparameterized = True

    def __init__(self, loc: ArrayLike, scale: ArrayLike):
        super().__init__(*as_parameters("Normal", self.arg_constraints, loc=loc, scale=scale))

    def log_prob(self, value: ArrayLike) -> Array:
        """Returns log p(value), shape of `value` broadcast with the batch."""
        z = self._standardize(value)
        return -0.5 * z**2 - align(jnp.log(self._scale), z.ndim) - 0.5 * math.log(2 * math.pi)

    def log_cdf(self, value: ArrayLike) -> Array:
        """Returns log P(X <= value), accurate in both tails."""
        z = self._standardize(value)
        # log_ndtr loses its digits above 0, where log1p of the small upper tail keeps them.
        return jnp.where(z > 0, jnp.log1p(-ndtr(-jnp.abs(z))), log_ndtr(jnp.where(z > 0, 0.0, z)))

    def quantile(self, q: ArrayLike) -> Array:
        """Returns loc + scale * Phi^-1(q)."""
        check_values("Normal.quantile", "q", q, constraints.probability)
        return self.from_standard_normal(ndtri(jnp.asarray(q, self._loc.dtype)))

    def from_standard_normal(self, z: ArrayLike) -> Array:
        """Returns loc + scale z."""
        z = jnp.asarray(z, self._loc.dtype)
        ndim = max(z.ndim, self._loc.ndim)
        return align(self._loc, ndim) + align(self._scale, ndim) * align(z, ndim)

    def _standardize(self, value: ArrayLike) -> Array:
        value = self._event(value)
        ndim = max(value.ndim, self._loc.ndim)
        return (align(value, ndim) - align(self._loc, ndim)) / align(self._scale, ndim)

    def median(self) -> Array:
        """Returns the median, which is the mean."""
        return self.loc
