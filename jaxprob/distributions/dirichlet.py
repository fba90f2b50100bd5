"""The Dirichlet distribution over vectors of probabilities.

    log p(x) = sum_k (a_k - 1) log x_k - log B(a)
    log B(a) = sum_k log Gamma(a_k) - log Gamma(a_0)

written as -sum_k D(a_k, a_0 x_k) + mu(a_0) - sum_k mu(a_k) + ..., a_0 = sum_k a_k.

Twin: `torch_ref/distributions/dirichlet.py`. Source: Kotz, Balakrishnan & Johnson, "Continuous
Multivariate Distributions" (2000), ch. 49.
"""

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.beta import Beta
from jaxprob.distributions.classes import class_covariance, class_variance
from jaxprob.distributions.gamma_draws import log_gamma_draws
from jaxprob.distributions.gradients import by_column, with_gradients
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
    times_power,
)
from jaxprob.distributions.validation import align, as_parameters
from jaxprob.types import Array, Key, Numbers

__all__ = ["Dirichlet", "dirichlet_kl"]


class Dirichlet(Distribution, distrax.Dirichlet):
    """Dirichlet distribution over the simplex.

    Args:
      concentration: a `[*batch, K]` (> 0), at least two.
    """

    arg_constraints = {"concentration": constraints.positive}
    reparameterized = True

    def __init__(self, concentration: Numbers):
        (self._concentration,) = as_parameters(
            "Dirichlet", self.arg_constraints, {"concentration": 1}, concentration=concentration
        )
        if self._concentration.shape[-1] < 2:
            raise ValueError(
                f"Dirichlet: concentration has shape {self._concentration.shape}; expected "
                "[..., K] with K >= 2. For a single probability take Beta."
            )

    @property
    def name(self) -> str:
        """Name of the class."""
        return "Dirichlet"

    @property
    def concentration(self) -> Array:
        """Concentrations `[*batch, K]`."""
        return self._concentration

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._concentration.shape[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(K,)`."""
        return self._concentration.shape[-1:]

    @property
    def support(self) -> constraints.Constraint:
        """The simplex, its faces included."""
        return constraints.simplex

    @property
    def _total(self) -> Array:
        return jnp.sum(self._concentration, axis=-1)

    def marginal(self) -> Beta:
        """Returns the beta distribution of each entry."""
        return Beta(self._concentration, self._total[..., None] - self._concentration)

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`; -inf off the support."""
        value = self._event(value)
        allowed = self.support.check(value)
        ndim = max(value.ndim, self._concentration.ndim)
        a = align(self._concentration, ndim)
        x = align(value, ndim).astype(jnp.result_type(value.dtype, a.dtype))
        allowed = align(allowed, ndim - 1)
        x = jnp.where(allowed[..., None], x, 1.0 / x.shape[-1])
        log_prob = with_gradients(_log_density, _gradients, event_ndims=(1, 1))(x, a)
        log_prob = jnp.where(allowed, log_prob, -jnp.inf)
        unknown = align(jnp.any(jnp.isnan(value), axis=-1), ndim - 1)
        return jnp.where(unknown, jnp.nan, log_prob)

    def prob(self, value: Numbers) -> Array:
        """Returns p(value)."""
        return jnp.exp(self.log_prob(value))

    def _sample_n(self, key: Key, n: int) -> Array:
        a = jnp.broadcast_to(self._concentration, (n, *self._concentration.shape))
        return jax.nn.softmax(log_gamma_draws(key, a), axis=-1)

    def mean(self) -> Array:
        """Returns a / a_0 `[*batch, K]`."""
        return self._concentration / self._total[..., None]

    def variance(self) -> Array:
        """Returns m (1 - m) / (a_0 + 1) with the mean m."""
        return class_variance(self.mean()) / (self._total[..., None] + 1.0)

    def covariance(self) -> Array:
        """Returns (diag(m) - m m^T) / (a_0 + 1) `[*batch, K, K]`."""
        return class_covariance(self.mean()) / (self._total[..., None, None] + 1.0)

    def mode(self) -> Array:
        """Returns (a - 1)_+ normalised; where all a <= 1, the corner of the largest."""
        above = jnp.maximum(self._concentration - 1.0, 0.0)
        total = jnp.sum(above, axis=-1, keepdims=True)
        size = self._concentration.shape[-1]
        corner = jax.nn.one_hot(jnp.argmax(self._concentration, -1), size, dtype=above.dtype)
        return jnp.where(total > 0.0, above / jnp.where(total > 0.0, total, 1.0), corner)

    def entropy(self) -> Array:
        """Returns log B(a) + (a_0 - K) psi(a_0) - sum_k (a_k - 1) psi(a_k)."""
        a, total = self._concentration, self._total
        size = a.shape[-1]
        logs = 0.5 * jnp.sum(jnp.log(a), axis=-1) - (size - 0.5) * jnp.log(total)
        smaller = jnp.sum(binet(a) - (a - 1.0) * digamma_minus_log(a), axis=-1) - binet(total)
        of_total = (total - size) * digamma_minus_log(total)
        return logs + smaller + of_total + (size - 1) * HALF_LOG_TWO_PI


def _log_density(x: Array, a: Array) -> Array:
    """Returns log p of points of the simplex `[..., K]`."""
    total = jnp.sum(a, axis=-1)
    of_total = binet(total) - 0.5 * jnp.log(total) + HALF_LOG_TWO_PI
    return jnp.sum(by_column(_term, x, a, total[..., None]), axis=-1) + of_total


def _term(x: Array, a: Array, total: Array) -> Array:
    log_x, log_a, log_total = (recomputed(jnp.log(part)) for part in (x, a, total))
    saddle = minus_deviance(a, total * x - a, log_total + log_x - log_a)
    # What is left of it at x = 0, where a = 1 leaves a number.
    limit = jnp.where(a == 1.0, 1.0 + log_total, jnp.where(a > 1.0, -jnp.inf, jnp.inf))
    term = jnp.where(x == 0.0, limit, saddle - log_x)
    return term - binet(a) + 0.5 * log_a - HALF_LOG_TWO_PI


def _gradients(x: Array, a: Array) -> tuple[Array, Array]:
    def to_a(x: Array, a: Array, total: Array, of_total: Array) -> Array:
        return log_ratio(total * x, a) + of_total - digamma_minus_log(a)

    total = jnp.sum(a, axis=-1)
    of_total = digamma_minus_log(total)[..., None]
    return times_power(a - 1.0, x), by_column(to_a, x, a, total[..., None], of_total)


def dirichlet_kl(a: Array, b: Array) -> Array:
    """Bregman divergence of log B from a to b, leading terms combined into deviances."""

    def smaller(from_, to):
        return binet_bregman(from_, to) - 0.5 * log_ratio_minus(to, from_)

    total_a, total_b = jnp.sum(a, -1), jnp.sum(b, -1)
    leading = jnp.sum(deviance(b, a * (total_b / total_a)[..., None]), axis=-1)
    return leading + jnp.sum(smaller(a, b), axis=-1) - smaller(total_a, total_b)
