"""Families over the real line that are one shape moved and stretched, z = (x - loc) / scale.

    Laplace    log p = -|z| - log 2 - log scale             H = 1 + log(2 scale)
    Cauchy     log p = -log(1 + z^2) - log pi - log scale   H = log(4 pi scale)
    Logistic   log p = -z - 2 log(1 + e^-z) - log scale     H = 2 + log scale
    Gumbel     log p = -z - e^-z - log scale                H = 1 + gamma + log scale

Twin: `torch_ref/distributions/location_scale.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 1 ch. 16 and vol. 2 ch. 22-24.
"""

import math

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import constraints
from jaxprob.distributions.log_gamma import log_gamma_two_plus_minus
from jaxprob.distributions.special import (
    expm1_minus,
    is_double,
    log1p,
    log1p_square,
    log_ratio_minus,
    log_sigmoid,
    standardize,
)
from jaxprob.distributions.tails import Tails, lower_half
from jaxprob.distributions.univariate import Univariate, draw_uniform, parameter, probability_logs
from jaxprob.types import Array, Key, Numbers

__all__ = ["Cauchy", "Gumbel", "Laplace", "Logistic", "extreme_value_kl"]


class _LocationScale(Univariate):
    """What the four share: the parameters, and formulas of z alone."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    reparameterized = True

    def __init__(self, loc: Numbers, scale: Numbers):
        self._set(loc=loc, scale=scale)

    loc = parameter("loc", "Location `[*batch]`.")
    scale = parameter("scale", "Scale `[*batch]`.")

    def _inner_point(self, *parameters: Array) -> Array:
        return parameters[0]

    def _log_density(self, x: Array, loc: Array, scale: Array) -> Array:
        return self._standard_log_density(standardize(x, loc, scale)) - jnp.log(scale)

    def _gradients(self, x: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
        gradient, rest = self._standard_gradients(standardize(x, loc, scale))
        return gradient / scale, -gradient / scale, -rest / scale

    def _tails(self, x: Array, loc: Array, scale: Array) -> Tails:
        return self._standard_tails(standardize(x, loc, scale))

    def _quantile(self, lower: Array, upper: Array, loc: Array, scale: Array) -> Array:
        return loc + scale * self._standard_quantile(lower, upper)

    def _sample_n(self, key: Key, n: int) -> Array:
        z = self._standard_draws(key, (n, *self.batch_shape), self._loc.dtype)
        return self._loc[None] + self._scale[None] * z

    def mean(self) -> Array:
        """Returns the mean."""
        return self._loc

    def median(self) -> Array:
        """Returns the median."""
        return self._loc

    def mode(self) -> Array:
        """Returns the mode."""
        return self._loc

    def _standard_log_density(self, z: Array) -> Array:
        raise NotImplementedError

    def _standard_gradients(self, z: Array) -> tuple[Array, Array]:
        """Gradient g of the standard log-density, and 1 + z g."""
        raise NotImplementedError

    def _standard_tails(self, z: Array) -> Tails:
        raise NotImplementedError

    def _standard_quantile(self, lower: Array, upper: Array) -> Array:
        raise NotImplementedError

    def _standard_draws(self, key: Key, shape: tuple[int, ...], dtype) -> Array:
        raise NotImplementedError


class Laplace(_LocationScale, distrax.Laplace):
    """Double exponential distribution.

    Args:
      loc: Mean, median and mode.
      scale: Mean absolute deviation (> 0).
    """

    def _standard_log_density(self, z: Array) -> Array:
        return -jnp.abs(z) - math.log(2)

    def _standard_gradients(self, z: Array) -> tuple[Array, Array]:
        # The gradient at the kink is 0, the middle of the subgradients.
        return -jnp.sign(z), 1.0 - jnp.abs(z)

    def _standard_tails(self, z: Array) -> Tails:
        return Tails(lower_half(z) - math.log(2), z <= 0.0)

    def _kink(self, *parameters: Array) -> Array:
        return parameters[0]

    def _standard_quantile(self, lower: Array, upper: Array) -> Array:
        below = lower < 0.5
        tail = math.log(2) + jnp.log(jnp.where(below, lower, upper))
        return jnp.where(below, tail, -tail)

    def _standard_draws(self, key: Key, shape: tuple[int, ...], dtype) -> Array:
        return jax.random.laplace(key, shape, dtype)

    def variance(self) -> Array:
        """Returns 2 scale^2."""
        return 2.0 * self._scale**2

    def stddev(self) -> Array:
        """Returns sqrt(2) scale."""
        return math.sqrt(2) * self._scale

    def entropy(self) -> Array:
        """Returns 1 + log(2 scale)."""
        return 1.0 + math.log(2) + jnp.log(self._scale)


class Cauchy(_LocationScale):
    """Cauchy distribution: mean and variance do not exist (NaN and infinite, as in SciPy).

    Args:
      loc: Median and mode.
      scale: Half width at half maximum (> 0).
    """

    def _standard_log_density(self, z: Array) -> Array:
        return -log1p_square(z) - math.log(math.pi)

    def _standard_gradients(self, z: Array) -> tuple[Array, Array]:
        far = jnp.abs(z) > 1.0  # in terms of 1 / z, where z^2 may overflow
        root = jnp.where(far, 1.0 / jnp.where(far, z, 1.0), z)
        square = root * root
        return -2.0 * root / (1.0 + square), jnp.where(far, -1.0, 1.0) * (1.0 - square) / (
            1.0 + square
        )

    def _standard_tails(self, z: Array) -> Tails:
        size = -lower_half(z)
        far = size > 1.0 / jnp.finfo(z.dtype).eps  # where arctan(1 / z) = 1 / z
        near = jnp.log(jnp.arctan2(1.0, jnp.where(far, 1.0, size)) / math.pi)
        log_tail = jnp.where(far, -math.log(math.pi) - jnp.log(jnp.where(far, size, 1.0)), near)
        return Tails(log_tail, z <= 0.0)

    def _drifts(self, x: Array, loc: Array, scale: Array) -> tuple[Array | None, ...]:
        # far out the density underflows in float32 where its product with z does not
        return None, None if is_double(x) else standardize(x, loc, scale)

    def _standard_quantile(self, lower: Array, upper: Array) -> Array:
        below = lower < 0.5
        tail = jnp.where(below, lower, upper)
        # -cot(pi q), and near the median the tangent of a small angle
        middle = tail > 0.25
        angle = math.pi * jnp.where(middle, 0.5 - tail, tail)
        size = jnp.where(middle, jnp.tan(angle), 1.0 / jnp.tan(jnp.where(middle, 0.7, angle)))
        return jnp.where(below, -size, size)

    def _standard_draws(self, key: Key, shape: tuple[int, ...], dtype) -> Array:
        return jax.random.cauchy(key, shape, dtype)

    def mean(self) -> Array:
        """Returns NaN: there is no mean."""
        return jnp.full_like(self._loc, jnp.nan)

    def variance(self) -> Array:
        """Returns infinity."""
        return jnp.full_like(self._loc, jnp.inf)

    def entropy(self) -> Array:
        """Returns log(4 pi scale)."""
        return math.log(4 * math.pi) + jnp.log(self._scale)


class Logistic(_LocationScale, distrax.Logistic):
    """Logistic distribution, whose cdf is the sigmoid.

    Args:
      loc: Mean, median and mode.
      scale: Scale (> 0); the variance is scale^2 pi^2 / 3.
    """

    def _standard_log_density(self, z: Array) -> Array:
        return -jnp.abs(z) - 2.0 * log1p(jnp.exp(-jnp.abs(z)))

    def _standard_gradients(self, z: Array) -> tuple[Array, Array]:
        gradient = -jnp.tanh(0.5 * z)
        return gradient, 1.0 + z * gradient

    def _standard_tails(self, z: Array) -> Tails:
        return Tails(log_sigmoid(lower_half(z)), z <= 0.0)

    def _standard_quantile(self, lower: Array, upper: Array) -> Array:
        log_lower, log_upper = probability_logs(lower, upper)
        return log_lower - log_upper

    def _standard_draws(self, key: Key, shape: tuple[int, ...], dtype) -> Array:
        return jax.random.logistic(key, shape, dtype)

    def variance(self) -> Array:
        """Returns scale^2 pi^2 / 3."""
        return self._scale**2 * (math.pi**2 / 3)

    def stddev(self) -> Array:
        """Returns scale pi / sqrt(3)."""
        return self._scale * (math.pi / math.sqrt(3))

    def entropy(self) -> Array:
        """Returns 2 + log scale."""
        return 2.0 + jnp.log(self._scale)


class Gumbel(_LocationScale, distrax.Gumbel):
    """Gumbel distribution of maxima.

    Args:
      loc: Mode.
      scale: Scale (> 0).
    """

    def _standard_log_density(self, z: Array) -> Array:
        # -z - e^-z, whose two infinities would cancel at z = -inf
        return -z - jnp.exp(-z)

    def _standard_gradients(self, z: Array) -> tuple[Array, Array]:
        gradient = jnp.expm1(-z)
        return gradient, 1.0 + z * gradient

    def _standard_tails(self, z: Array) -> Tails:
        early = z < -math.log(float(jnp.finfo(z.dtype).max))
        hazard = jnp.where(early, jnp.inf, jnp.exp(-jnp.where(early, 0.0, z)))
        # Where it is small: log(1 - e^-h) = log h + log((1 - e^-h) / h).
        small = hazard < 0.5
        inside = jnp.where(small, jnp.maximum(hazard, jnp.finfo(z.dtype).eps), 0.5)
        upper = -z + jnp.log(-jnp.expm1(-inside) / inside)
        return Tails(jnp.where(small, upper, -hazard), ~small)

    def _standard_quantile(self, lower: Array, upper: Array) -> Array:
        return -jnp.log(-probability_logs(lower, upper)[0])

    def _standard_draws(self, key: Key, shape: tuple[int, ...], dtype) -> Array:
        return -jnp.log(-jnp.log(draw_uniform(key, shape, dtype)))

    def mean(self) -> Array:
        """Returns loc + gamma scale, gamma = 0.5772 being Euler's constant."""
        return self._loc + np.euler_gamma * self._scale

    def median(self) -> Array:
        """Returns loc - scale log log 2."""
        return self._loc - math.log(math.log(2)) * self._scale

    def variance(self) -> Array:
        """Returns scale^2 pi^2 / 6."""
        return self._scale**2 * (math.pi**2 / 6)

    def stddev(self) -> Array:
        """Returns scale pi / sqrt(6)."""
        return self._scale * (math.pi / math.sqrt(6))

    def entropy(self) -> Array:
        """Returns 1 + gamma + log scale."""
        return 1.0 + np.euler_gamma + jnp.log(self._scale)


def extreme_value_kl(scale_p: Array, scale_q: Array, gap: Array) -> Array:
    """Returns -log r + gamma (r - 1) + gap + E - 1 of Gumbel distributions, r = scale_p / scale_q.

    E = exp(log Gamma(1 + r) - gap) is the mean of exp(-(X - loc_q) / scale_q). Near r = 1 the terms
    linear in r - 1 cancel on paper.
    """
    w = (scale_p - scale_q) / scale_q
    curve = log_gamma_two_plus_minus(w)
    log_expected = (1.0 - np.euler_gamma) * w + curve - gap
    return curve - log_ratio_minus(scale_p, scale_q) + expm1_minus(log_expected)
