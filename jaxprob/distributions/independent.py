"""Batch axes reinterpreted as event axes: log p(x) = sum_i log p_i(x_i).

Twin: `torch_ref/distributions/independent.py`.
"""

from typing import Any

import distrax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.validation import check_event
from jaxprob.types import Array, Numbers

__all__ = ["Independent"]


class Independent(Distribution, distrax.Independent):
    """A product of independent distributions, the last batch axes becoming the event.

    From distrax: `batch_shape`, `distribution`, `entropy`, `event_shape`, `mean`, `mode`,
    `reinterpreted_batch_ndims`, `stddev`, `variance`.

    Args:
      distribution: The factors, batch shape `[*batch, *event]`.
      reinterpreted_batch_ndims: How many batch axes, from the right, form the event.

    Raises:
      ValueError: More axes asked for than the distribution has.
    """

    def __init__(self, distribution: distrax.Distribution, reinterpreted_batch_ndims: int = 1):
        super().__init__(distribution, reinterpreted_batch_ndims)

    @property
    def reparameterized(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the factors have a pathwise gradient."""
        return getattr(self.distribution, "reparameterized", False)

    @property
    def periodic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the factors lie on a circle."""
        return getattr(self.distribution, "periodic", False)

    @property
    def support(self) -> constraints.Constraint:
        """The support of each factor."""
        return getattr(self.distribution, "support", super().support)

    def _float_dtype(self) -> Any:
        inner = self.distribution
        return inner._float_dtype() if isinstance(inner, Distribution) else super()._float_dtype()

    def marginal(self) -> Distribution:
        """Returns the factors themselves."""
        inner = self.distribution
        return inner.marginal() if isinstance(inner, Distribution) else inner

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`, summed over the event."""
        return self._reduce(jnp.sum, self.distribution.log_prob(self._event(value)))

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X_i <= value_i for all i) `[*batch]`."""
        return self._reduce(jnp.sum, self.distribution.log_cdf(self._shaped(value)))

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X_i <= value_i for all i) `[*batch]`."""
        return self._reduce(jnp.prod, self.distribution.cdf(self._shaped(value)))

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X_i > value_i for all i) `[*batch]`."""
        return self._reduce(jnp.prod, self.distribution.survival_function(self._shaped(value)))

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X_i > value_i for all i) `[*batch]`."""
        return self._reduce(jnp.sum, self.distribution.log_survival_function(self._shaped(value)))

    def _shaped(self, value: Numbers) -> Array:
        return check_event(self.name, value, self.batch_shape, self.event_shape)

    def median(self) -> Array:
        """Returns the median of each factor."""
        return self.distribution.median()

    def prob_above(self, threshold: Numbers) -> Array:
        """Returns P(X_i > threshold) of each factor."""
        return self.marginal().survival_function(jnp.asarray(threshold))

    def _shown_fields(self) -> dict[str, Any]:
        return {
            "distribution": self.distribution,
            "reinterpreted_batch_ndims": self.reinterpreted_batch_ndims,
        }
