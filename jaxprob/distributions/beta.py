"""The beta distribution.

    log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b)

written as -D(a, n x) - D(b, n (1 - x)) - mu(a) - mu(b) + mu(n) + log(a b / (2 pi n)) / 2
- log(x (1 - x)) with n = a + b, in which large terms have been cancelled on paper.

Twin: `torch_ref/distributions/beta.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 2, 2nd ed., ch. 25.
"""

import math

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.gamma_draws import log_gamma_draws
from jaxprob.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    digamma_minus_log,
    log1p,
    minus_deviance,
    recomputed,
    times_power,
)
from jaxprob.distributions.tails import Tails, beta_tails
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["Beta"]


class Beta(Univariate, distrax.Beta):
    """Beta distribution over the unit interval.

    Args:
      concentration1: a (> 0), pulls towards 1; the mean is a / (a + b).
      concentration0: b (> 0), pulls towards 0.
      alpha: distrax's name of concentration1.
      beta: distrax's name of concentration0.
    """

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    reparameterized = True
    _inside = 0.5
    _ends = (0.0, 1.0)

    def __init__(
        self,
        concentration1: Numbers | None = None,
        concentration0: Numbers | None = None,
        *,
        alpha: Numbers | None = None,
        beta: Numbers | None = None,
    ):
        first = _either("concentration1", concentration1, "alpha", alpha)
        self._set(
            concentration1=first,
            concentration0=_either("concentration0", concentration0, "beta", beta),
        )

    concentration1 = parameter("concentration1", "Concentration a `[*batch]`.")
    concentration0 = parameter("concentration0", "Concentration b `[*batch]`.")
    alpha = parameter("concentration1", "distrax's name of concentration1.")
    beta = parameter("concentration0", "distrax's name of concentration0.")

    @property
    def support(self) -> constraints.Constraint:
        """The unit interval, ends included."""
        return constraints.unit_interval

    def _log_density(self, x: Array, a: Array, b: Array) -> Array:
        y, total = 1.0 - x, a + b
        log_x, log_y = recomputed(jnp.log(x)), recomputed(log1p(-x))
        log_a, log_b, log_total = (recomputed(jnp.log(count)) for count in (a, b, total))
        # (a + b) x - a = b x - a y = d, and (a + b) y - b = -d
        gap = b * x - a * y
        saddle = minus_deviance(a, gap, log_total + log_x - log_a)
        saddle = saddle + minus_deviance(b, -gap, log_total + log_y - log_b)
        smaller = binet(total) - binet(a) - binet(b) + 0.5 * (log_a + log_b - log_total)
        inner = saddle + smaller - HALF_LOG_TWO_PI - log_x - log_y
        at_zero = jnp.where(a == 1.0, log_b, jnp.where(a > 1.0, -jnp.inf, jnp.inf))
        at_one = jnp.where(b == 1.0, log_a, jnp.where(b > 1.0, -jnp.inf, jnp.inf))
        return jnp.where(x == 0.0, at_zero, jnp.where(y == 0.0, at_one, inner))

    def _gradients(self, x: Array, a: Array, b: Array) -> tuple[Array, ...]:
        total = digamma_minus_log(a + b)
        to_a = jnp.log(x) + jnp.log1p(b / a) + total - digamma_minus_log(a)
        to_b = log1p(-x) + jnp.log1p(a / b) + total - digamma_minus_log(b)
        return times_power(a - 1.0, x) - times_power(b - 1.0, 1.0 - x), to_a, to_b

    def _tails(self, x: Array, a: Array, b: Array) -> Tails:
        a, b, x = jnp.broadcast_arrays(a, b, x)
        return beta_tails(a, b, x)

    def _sample_n(self, key: Key, n: int) -> Array:
        shape = (n, *self.batch_shape)
        parameters = (self._concentration1, self._concentration0)
        log_a, log_b = (
            log_gamma_draws(own_key, jnp.broadcast_to(parameter, shape))
            for own_key, parameter in zip(jax.random.split(key), parameters, strict=True)
        )
        return jax.nn.sigmoid(log_a - log_b)

    def mean(self) -> Array:
        """Returns a / (a + b)."""
        return self._concentration1 / (self._concentration1 + self._concentration0)

    def variance(self) -> Array:
        """Returns a b / ((a + b)^2 (a + b + 1))."""
        a, b = self._concentration1, self._concentration0
        total = a + b
        return (a / total) * (b / total) / (total + 1.0)

    def mode(self) -> Array:
        """Returns (a - 1) / (a + b - 2) where a or b exceeds 1 and none is below it.

        Otherwise the end with the higher density: 0 where both are alike, and 1/2 where the density
        is flat.
        """
        a, b = self._concentration1, self._concentration0
        above, below = jnp.maximum(a - 1.0, 0.0), jnp.maximum(b - 1.0, 0.0)
        total = above + below
        flat = total == 0.0
        alike = jnp.where(a < 1.0, 0.0, 0.5)
        ends = jnp.where(a > b, 1.0, jnp.where(a < b, 0.0, alike))
        return jnp.where(flat, ends, above / jnp.where(flat, 1.0, total))

    def entropy(self) -> Array:
        """Returns log B(a, b) - (a - 1) psi(a) - (b - 1) psi(b) + (a + b - 2) psi(a + b)."""
        a, b = self._concentration1, self._concentration0
        total = a + b
        logs = 0.5 * jnp.log(a / total) + 0.5 * jnp.log(b / total) - 0.5 * jnp.log(total)
        smaller = binet(a) + binet(b) - binet(total)
        digammas = (
            (total - 2.0) * digamma_minus_log(total)
            - (a - 1.0) * digamma_minus_log(a)
            - (b - 1.0) * digamma_minus_log(b)
        )
        return 0.5 * math.log(2 * math.pi) + logs + smaller + digammas


def _either(name: str, value: Numbers | None, other: str, alias: Numbers | None) -> Numbers:
    """One parameter under either of its names."""
    if (value is None) == (alias is None):
        raise ValueError(f"Beta: give {name} (or {other}, its name in distrax), and one of them.")
    return alias if value is None else value  # pyright: ignore[reportReturnType]
