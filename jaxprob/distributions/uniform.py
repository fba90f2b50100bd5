"""The uniform distribution: log p(x) = -log(high - low) for low <= x <= high, both ends included.

Twin: `torch_ref/distributions/uniform.py`.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.special import log_ratio
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.distributions.validation import check_values
from jaxprob.types import Array, Key, Numbers

__all__ = ["Uniform"]


class Uniform(Univariate, distrax.Uniform):
    """Uniform distribution over an interval.

    From distrax: `prob`, `range`.

    Args:
      low: Lower end, in the units of the event.
      high: Upper end (> low).
    """

    arg_constraints = {"low": constraints.real, "high": constraints.real}
    reparameterized = True

    def __init__(self, low: Numbers = 0.0, high: Numbers = 1.0):
        self._set(low=low, high=high)
        above = constraints.positive._replace(
            name="above low", fix="Swap low and high, or widen the interval."
        )
        check_values("Uniform", "high - low", jnp.subtract(self._high, self._low), above)

    low = parameter("low", "Lower end `[*batch]`.")
    high = parameter("high", "Upper end `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The closed interval from low to high."""
        return constraints.interval(self._low, self._high)

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        low, high = parameters
        return low, high

    def _inner_point(self, *parameters: Array) -> Any:
        low, high = parameters
        return 0.5 * low + 0.5 * high

    def _log_density(self, x: Array, low: Array, high: Array) -> Array:
        return jnp.broadcast_to(-jnp.log(high - low), x.shape)

    def _tails(self, x: Array, low: Array, high: Array) -> Tails:
        below = x - low <= high - x
        size, distance = high - low, jnp.where(below, x - low, high - x)
        inside = distance > 0.0
        log_tail = log_ratio(jnp.where(inside, distance, size), size)
        return Tails(jnp.where(inside, log_tail, -jnp.inf), below)

    def _quantile(self, lower: Array, upper: Array, low: Array, high: Array) -> Array:
        size = high - low
        return jnp.where(lower < 0.5, low + size * lower, high - size * upper)

    def _sample_n(self, key: Key, n: int) -> Array:
        u = jax.random.uniform(key, (n, *self.batch_shape), self._low.dtype)
        return self._low[None] + jnp.subtract(self._high, self._low)[None] * u

    def mean(self) -> Array:
        """Returns (low + high) / 2."""
        return 0.5 * self._low + 0.5 * self._high

    def median(self) -> Array:
        """Returns the mean."""
        return self.mean()

    def mode(self) -> Array:
        """Returns the mean; every point of the interval is a mode."""
        return self.mean()

    def variance(self) -> Array:
        """Returns (high - low)^2 / 12."""
        return jnp.subtract(self._high, self._low) ** 2 / 12.0

    def stddev(self) -> Array:
        """Returns (high - low) / sqrt(12)."""
        return jnp.subtract(self._high, self._low) / 12.0**0.5

    def entropy(self) -> Array:
        """Returns log(high - low)."""
        return jnp.log(jnp.subtract(self._high, self._low))
