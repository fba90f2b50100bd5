"""The gamma distribution and that of its inverse.

    Gamma         log p(x) = a log b - log Gamma(a) + (a - 1) log x - b x
    InverseGamma  log p(x) = a log b - log Gamma(a) - (a + 1) log x - b / x

written as log p = -D(a, b x) - mu(a) + log(a / (2 pi)) / 2 - log x, in which large terms have been
cancelled on paper (see `special.py`).

    H = log Gamma(a) + a + (1 - a) psi(a) - log b
    KL(p || q) = D(a_q, a_p b_q / b_p) + Bregman divergence of the smaller terms of log Gamma

Twin: `torch_ref/distributions/gamma.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 1, 2nd ed., ch. 17.
"""

import distrax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.gamma_draws import gamma_draws
from jaxprob.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    binet_bregman,
    deviance,
    digamma_minus_log,
    log_ratio,
    log_ratio_minus,
    minus_deviance,
    recomputed,
    standardize,
    times_power,
)
from jaxprob.distributions.tails import Tails, gamma_tails
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["Gamma", "InverseGamma"]


class _GammaBase(Univariate):
    """What the two share: parameters and support."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    reparameterized = True
    _inside = 1.0
    _ends = (0.0, float("inf"))

    def __init__(self, concentration: Numbers, rate: Numbers):
        self._set(concentration=concentration, rate=rate)

    concentration = parameter("concentration", "Shape a `[*batch]`.")
    rate = parameter("rate", "Rate b `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The non-negative numbers."""
        return constraints.non_negative

    def _standard_draws(self, key: Key, n: int) -> Array:
        shape = (n, *self.batch_shape)
        return gamma_draws(key, jnp.broadcast_to(self._concentration, shape))


class Gamma(_GammaBase, distrax.Gamma):
    """Gamma distribution over the positive numbers.

    Args:
      concentration: Shape a (> 0); the mean is a / b.
      rate: Rate b (> 0), in events per unit.
    """

    def _log_density(self, x: Array, concentration: Array, rate: Array) -> Array:
        return gamma_log_density(x, concentration, rate)

    def _gradients(self, x: Array, concentration: Array, rate: Array) -> tuple[Array, ...]:
        a = concentration
        to_a = log_ratio(rate * x, a) - digamma_minus_log(a)
        return times_power(a - 1.0, x) - rate, to_a, a / rate - x

    def _tails(self, x: Array, concentration: Array, rate: Array) -> Tails:
        a, scaled = jnp.broadcast_arrays(concentration, rate * x)
        return gamma_tails(a, scaled)

    def _quantile(self, lower: Array, upper: Array, concentration: Array, rate: Array) -> Array:
        one = jnp.ones_like(rate)
        return super()._quantile(lower, upper, concentration, one) / rate

    def _sample_n(self, key: Key, n: int) -> Array:
        return self._standard_draws(key, n) / self._rate[None]

    def mean(self) -> Array:
        """Returns a / b."""
        return self._concentration / self._rate

    def variance(self) -> Array:
        """Returns a / b^2."""
        return self._concentration / self._rate**2

    def stddev(self) -> Array:
        """Returns sqrt(a) / b."""
        return jnp.sqrt(self._concentration) / self._rate

    def mode(self) -> Array:
        """Returns (a - 1) / b, and 0 for a <= 1."""
        return jnp.maximum(self._concentration - 1.0, 0.0) / self._rate

    def entropy(self) -> Array:
        """Returns log Gamma(a) + a + (1 - a) psi(a) - log b."""
        a = self._concentration
        # With psi(a) = log a - 1 / (2 a) + mu'(a) the terms that grow cancel on paper.
        inner = binet(a) + (1.0 - a) * digamma_minus_log(a)
        return 0.5 * jnp.log(a) + HALF_LOG_TWO_PI + inner - jnp.log(self._rate)


class InverseGamma(_GammaBase):
    """Distribution of 1 / X for gamma distributed X.

    Args:
      concentration: Shape a (> 0); the mean exists for a > 1.
      rate: Scale b (> 0), in the units of the event (named as in torch.distributions).
    """

    def _log_density(self, x: Array, concentration: Array, rate: Array) -> Array:
        zero = x == 0.0
        safe = jnp.where(zero, 1.0, x)
        scaled = rate / safe  # may be infinite for tiny x, where the density is 0
        gone = ~jnp.isfinite(scaled)
        inner = gamma_log_density(jnp.where(gone, 1.0, scaled), concentration, jnp.ones_like(rate))
        # dz / dx for z = b / x
        log_density = inner + jnp.log(rate) - 2.0 * jnp.log(safe)
        return jnp.where(zero | gone, -jnp.inf, log_density)

    def _gradients(self, x: Array, concentration: Array, rate: Array) -> tuple[Array, ...]:
        a, gone = concentration, (x == 0.0) | ~jnp.isfinite(rate / x)
        safe = jnp.where(gone, rate, x)
        scaled = rate / safe
        to_a = log_ratio(scaled, a) - digamma_minus_log(a)
        gradients = (scaled - (a + 1.0)) / safe, to_a, (a - scaled) / rate
        return tuple(jnp.where(gone, 0.0, gradient) for gradient in gradients)

    def _tails(self, x: Array, concentration: Array, rate: Array) -> Tails:
        zero = x == 0.0
        scaled = standardize(rate, jnp.zeros_like(rate), jnp.where(zero, 1.0, x))
        a, scaled = jnp.broadcast_arrays(concentration, jnp.where(zero, jnp.inf, scaled))
        tails = gamma_tails(a, scaled)
        # P(X <= x) = P(G >= b / x)
        return Tails(tails.log_tail, ~jnp.asarray(tails.is_lower))

    def _quantile(self, lower: Array, upper: Array, concentration: Array, rate: Array) -> Array:
        gamma = Gamma(1.0, 1.0)
        inverse = gamma._quantile(upper, lower, concentration, jnp.ones_like(rate))
        zero = inverse == 0.0
        return jnp.where(zero, jnp.inf, rate / jnp.where(zero, 1.0, inverse))

    def _sample_n(self, key: Key, n: int) -> Array:
        return self._rate[None] / self._standard_draws(key, n)

    def mean(self) -> Array:
        """Returns b / (a - 1), infinite for a <= 1."""
        above = jnp.where(self._concentration > 1.0, self._concentration - 1.0, 1.0)
        return jnp.where(self._concentration > 1.0, self._rate / above, jnp.inf)

    def variance(self) -> Array:
        """Returns b^2 / ((a - 1)^2 (a - 2)), infinite for a <= 2."""
        a = jnp.where(self._concentration > 2.0, self._concentration, 3.0)
        finite = (self._rate / (a - 1.0)) ** 2 / (a - 2.0)
        return jnp.where(self._concentration > 2.0, finite, jnp.inf)

    def mode(self) -> Array:
        """Returns b / (a + 1)."""
        return self._rate / (self._concentration + 1.0)

    def entropy(self) -> Array:
        """Returns a + log b + log Gamma(a) - (1 + a) psi(a)."""
        a = self._concentration
        inner = binet(a) - (1.0 + a) * digamma_minus_log(a)
        return HALF_LOG_TWO_PI - 1.5 * jnp.log(a) + inner + jnp.log(self._rate)


def gamma_log_density(x: Array, a: Array, b: Array) -> Array:
    """Returns log Gamma(x; a, b) for x >= 0."""
    product, log_a, log_x = b * x, recomputed(jnp.log(a)), recomputed(jnp.log(x))
    gone = product == jnp.inf
    scaled = jnp.where(gone, 1.0, product)
    saddle = minus_deviance(a, scaled - a, recomputed(jnp.log(b)) + log_x - log_a)
    inner = saddle - binet(a) + 0.5 * log_a - HALF_LOG_TWO_PI - log_x
    at_zero = jnp.where(a == 1.0, jnp.log(b), jnp.where(a > 1.0, -jnp.inf, jnp.inf))
    return jnp.where(x == 0.0, at_zero, jnp.where(gone, -jnp.inf, inner))


def gamma_kl(a_p: Array, b_p: Array, a_q: Array, b_q: Array) -> Array:
    """Returns KL(Gamma(a_p, b_p) || Gamma(a_q, b_q))."""
    leading = deviance(a_q, a_p * (b_q / b_p)) - 0.5 * log_ratio_minus(a_q, a_p)
    return leading + binet_bregman(a_p, a_q)
