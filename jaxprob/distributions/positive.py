"""Families over the positive numbers with a cdf in closed form.

    Exponential  log p = log rate - rate x
    Weibull      log p = log k - log s + (k - 1) log(x / s) - (x / s)^k
    LogNormal    log p = log Normal(log x; loc, scale) - log x
    HalfNormal   log p = log 2 + log Normal(x; 0, scale)

The density of a value is computed from log x, so that (1e-30)^2 need not be representable.

Twin: `torch_ref/distributions/positive.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 1, 2nd ed., ch. 13, 14, 19, 21.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfinv, ndtri

from jaxprob.distributions import constraints
from jaxprob.distributions.gradients import normal_noise
from jaxprob.distributions.log_gamma import log_gamma_curvature
from jaxprob.distributions.special import log_gamma, log_ndtr, log_ratio, recomputed, standardize
from jaxprob.distributions.tails import Tails, lower_half
from jaxprob.distributions.univariate import Univariate, draw_uniform, parameter, probability_logs
from jaxprob.types import Array, Key, Numbers

__all__ = ["Exponential", "HalfNormal", "LogNormal", "Weibull"]


class _Positive(Univariate):
    """Families whose support is [0, inf)."""

    reparameterized = True
    _inside = 1.0
    _ends = (0.0, float("inf"))

    @property
    def support(self) -> constraints.Constraint:
        """The non-negative numbers."""
        return constraints.non_negative


class Exponential(_Positive):
    """Exponential distribution: waiting time at a constant rate.

    Args:
      rate: Events per unit (> 0), the inverse of the mean.
    """

    arg_constraints = {"rate": constraints.positive}

    def __init__(self, rate: Numbers):
        self._set(rate=rate)

    rate = parameter("rate", "Rate `[*batch]`.")

    def _log_density(self, x: Array, rate: Array) -> Array:
        return jnp.log(rate) - rate * x

    def _gradients(self, x: Array, rate: Array) -> tuple[Array, ...]:
        return -rate, 1.0 / rate - x

    def _tails(self, x: Array, rate: Array) -> Tails:
        hazard, zero = rate * x, x == 0.0
        # Where it is small: log(1 - e^-h) = log h + log((1 - e^-h) / h).
        small = hazard < 0.5
        inside = jnp.where(small, jnp.maximum(hazard, jnp.finfo(x.dtype).eps), 0.5)
        lower = jnp.log(rate) + jnp.log(jnp.where(zero, 1.0, x))
        lower = lower + jnp.log(-jnp.expm1(-inside) / inside)
        return Tails(jnp.where(small, jnp.where(zero, -jnp.inf, lower), -hazard), small)

    def _quantile(self, lower: Array, upper: Array, rate: Array) -> Array:
        return -probability_logs(lower, upper)[1] / rate

    def _sample_n(self, key: Key, n: int) -> Array:
        draws = jax.random.exponential(key, (n, *self.batch_shape), self._rate.dtype)
        return draws / self._rate[None]

    def mean(self) -> Array:
        """Returns 1 / rate."""
        return 1.0 / self._rate

    def variance(self) -> Array:
        """Returns 1 / rate^2."""
        return self._rate**-2

    def stddev(self) -> Array:
        """Returns 1 / rate."""
        return 1.0 / self._rate

    def mode(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self._rate)

    def entropy(self) -> Array:
        """Returns 1 - log rate."""
        return 1.0 - jnp.log(self._rate)


class Weibull(_Positive):
    """Weibull distribution: waiting time at a rate that rises or falls as a power of time.

    Args:
      scale: Scale (> 0), in the units of the event.
      concentration: Shape k (> 0); 1 is the exponential distribution.
    """

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}

    def __init__(self, scale: Numbers, concentration: Numbers):
        self._set(scale=scale, concentration=concentration)

    scale = parameter("scale", "Scale `[*batch]`.")
    concentration = parameter("concentration", "Shape `[*batch]`.")

    def _log_density(self, x: Array, scale: Array, concentration: Array) -> Array:
        constant = jnp.log(concentration) - jnp.log(scale)
        zero = x == 0.0
        log_scaled = log_ratio(jnp.where(zero, scale, x), scale)
        inner = (concentration - 1.0) * log_scaled - jnp.exp(concentration * log_scaled)
        at_zero = jnp.where(
            concentration == 1.0, 0.0, jnp.where(concentration > 1.0, -jnp.inf, jnp.inf)
        )
        return constant + jnp.where(zero, at_zero, inner)

    def _gradients(self, x: Array, scale: Array, concentration: Array) -> tuple[Array, ...]:
        k, zero = concentration, x == 0.0
        log_scaled = log_ratio(jnp.where(zero, scale, x), scale)
        hazard = jnp.where(zero, 0.0, jnp.exp(k * log_scaled))
        # at 0 the density is finite for k = 1 alone, where it falls at the rate 1 / scale
        to_x = ((k - 1.0) - k * hazard) / jnp.where(zero, 1.0, x)
        to_x = jnp.where(zero, jnp.where(k == 1.0, -1.0 / scale, 0.0), to_x)
        excess = jnp.where(zero, -1.0, jnp.expm1(k * log_scaled))
        to_scale = jnp.where(zero, -1.0, k * excess) / scale
        return to_x, to_scale, 1.0 / k - log_scaled * excess

    def _tails(self, x: Array, scale: Array, concentration: Array) -> Tails:
        zero = x == 0.0
        log_hazard = concentration * log_ratio(jnp.where(zero, scale, x), scale)
        hazard = jnp.where(zero, 0.0, jnp.exp(log_hazard))
        # Where the hazard h is small: log(1 - e^-h) = log h + log((1 - e^-h) / h).
        small = hazard < 0.5
        inside = jnp.where(small & ~zero, jnp.maximum(hazard, jnp.finfo(hazard.dtype).eps), 0.5)
        lower = log_hazard + jnp.log(-jnp.expm1(-inside) / inside)
        lower = jnp.where(zero, -jnp.inf, lower)
        return Tails(jnp.where(small, lower, -hazard), small)

    def _quantile(self, lower: Array, upper: Array, scale: Array, concentration: Array) -> Array:
        hazard = -probability_logs(lower, upper)[1]
        return scale * jnp.exp(jnp.log(hazard) / concentration)

    def _sample_n(self, key: Key, n: int) -> Array:
        u = draw_uniform(key, (n, *self.batch_shape), self._scale.dtype)
        return self._scale[None] * jnp.exp(jnp.log(-jnp.log(u)) / self._concentration[None])

    def mean(self) -> Array:
        """Returns scale Gamma(1 + 1 / k)."""
        return self._scale * jnp.exp(log_gamma(1.0 + 1.0 / self._concentration))

    def variance(self) -> Array:
        """Returns scale^2 (Gamma(1 + 2 / k) - Gamma(1 + 1 / k)^2)."""
        inverse = 1.0 / self._concentration
        log_square = 2.0 * log_gamma(1.0 + inverse)
        # exp(a) - exp(b), for large k a small difference
        return self._scale**2 * jnp.exp(log_square) * jnp.expm1(log_gamma_curvature(inverse))

    def mode(self) -> Array:
        """Returns scale ((k - 1) / k)^(1 / k), 0 for k <= 1."""
        k = jnp.where(self._concentration > 1.0, self._concentration, 2.0)
        inner = self._scale * jnp.exp(jnp.log1p(-1.0 / k) / k)
        return jnp.where(self._concentration > 1.0, inner, 0.0)

    def entropy(self) -> Array:
        """Returns gamma (1 - 1 / k) + log(scale / k) + 1."""
        k = self._concentration
        return np.euler_gamma * (1.0 - 1.0 / k) + jnp.log(self._scale) - jnp.log(k) + 1.0


class LogNormal(_Positive):
    """Log-normal distribution: log X is normal.

    Args:
      loc: Mean of log X.
      scale: Standard deviation of log X (> 0).
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Numbers, scale: Numbers):
        self._set(loc=loc, scale=scale)

    loc = parameter("loc", "Mean of log X `[*batch]`.")
    scale = parameter("scale", "Standard deviation of log X `[*batch]`.")

    def _log_density(self, x: Array, loc: Array, scale: Array) -> Array:
        zero = x == 0.0
        log_x = jnp.log(jnp.where(zero, 1.0, x))
        z = standardize(log_x, loc, scale)
        log_density = -0.5 * z**2 - jnp.log(scale) - log_x - 0.5 * math.log(2 * math.pi)
        return jnp.where(zero, -jnp.inf, log_density)

    def _gradients(self, x: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
        zero = x == 0.0  # the density and all its gradients are 0 there
        safe = jnp.where(zero, 1.0, x)
        z = standardize(jnp.log(safe), loc, scale)
        gradients = -(z / scale + 1.0) / safe, z / scale, (z - 1.0) * (z + 1.0) / scale
        return tuple(jnp.where(zero, 0.0, gradient) for gradient in gradients)

    def _tails(self, x: Array, loc: Array, scale: Array) -> Tails:
        zero = x == 0.0
        z = standardize(jnp.log(jnp.where(zero, 1.0, x)), loc, scale)
        return Tails(jnp.where(zero, -jnp.inf, log_ndtr(lower_half(z))), zero | (z <= 0.0))

    def _quantile(self, lower: Array, upper: Array, loc: Array, scale: Array) -> Array:
        small = lower < 0.5
        tail = ndtri(jnp.where(small, lower, upper))
        return jnp.exp(loc + scale * jnp.where(small, tail, -tail))

    def _sample_n(self, key: Key, n: int) -> Array:
        z = normal_noise(key, (n, *self.batch_shape), self._loc.dtype)
        return jnp.exp(self._loc[None] + self._scale[None] * z)

    def mean(self) -> Array:
        """Returns exp(loc + scale^2 / 2)."""
        return jnp.exp(self._loc + 0.5 * self._scale**2)

    def median(self) -> Array:
        """Returns exp(loc)."""
        return jnp.exp(self._loc)

    def mode(self) -> Array:
        """Returns exp(loc - scale^2)."""
        return jnp.exp(self._loc - self._scale**2)

    def variance(self) -> Array:
        """Returns (exp(scale^2) - 1) exp(2 loc + scale^2)."""
        return jnp.expm1(self._scale**2) * jnp.exp(2.0 * self._loc + self._scale**2)

    def entropy(self) -> Array:
        """Returns loc + 1/2 + log scale + log(2 pi) / 2."""
        return self._loc + 0.5 + jnp.log(self._scale) + 0.5 * math.log(2 * math.pi)


class HalfNormal(_Positive):
    """Half-normal distribution: the size of a centred normal variable.

    Args:
      scale: Standard deviation of the normal variable (> 0).
    """

    arg_constraints = {"scale": constraints.positive}

    def __init__(self, scale: Numbers):
        self._set(scale=scale)

    scale = parameter("scale", "Scale `[*batch]`.")

    def _log_density(self, x: Array, scale: Array) -> Array:
        return 0.5 * math.log(2 / math.pi) - jnp.log(scale) - 0.5 * (x / scale) ** 2

    def _gradients(self, x: Array, scale: Array) -> tuple[Array, ...]:
        z = recomputed(x / scale)
        return -z / scale, (z * z - 1.0) / scale

    def _tails(self, x: Array, scale: Array) -> Tails:
        z = standardize(x, jnp.zeros_like(scale), scale)
        small = z < 1.0
        tiny = z < jnp.finfo(z.dtype).eps  # where erf is linear, and z may have underflowed
        lower = jnp.log(erf(jnp.where(small & ~tiny, z, 1.0) / math.sqrt(2)))
        linear = 0.5 * math.log(2 / math.pi) + log_ratio(jnp.where(x > 0.0, x, scale), scale)
        lower = jnp.where(tiny, jnp.where(x > 0.0, linear, -jnp.inf), lower)
        upper = math.log(2) + log_ndtr(-jnp.where(small, 1.0, z))
        return Tails(jnp.where(small, lower, upper), small)

    def _quantile(self, lower: Array, upper: Array, scale: Array) -> Array:
        small = lower < 0.5
        near = math.sqrt(2) * erfinv(jnp.where(small, lower, 0.5))
        far = -ndtri(0.5 * jnp.where(small, 0.5, upper))
        return scale * jnp.where(small, near, far)

    def _sample_n(self, key: Key, n: int) -> Array:
        z = normal_noise(key, (n, *self.batch_shape), self._scale.dtype)
        return self._scale[None] * jnp.abs(z)

    def mean(self) -> Array:
        """Returns scale sqrt(2 / pi)."""
        return self._scale * math.sqrt(2 / math.pi)

    def mode(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self._scale)

    def variance(self) -> Array:
        """Returns scale^2 (1 - 2 / pi)."""
        return self._scale**2 * (1 - 2 / math.pi)

    def stddev(self) -> Array:
        """Returns scale sqrt(1 - 2 / pi)."""
        return self._scale * math.sqrt(1 - 2 / math.pi)

    def entropy(self) -> Array:
        """Returns (1 + log(pi scale^2 / 2)) / 2."""
        return 0.5 + 0.5 * math.log(math.pi / 2) + jnp.log(self._scale)
