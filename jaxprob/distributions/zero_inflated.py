"""Counts with extra zeros.

    p(0) = g + (1 - g) p_base(0),   p(k) = (1 - g) p_base(k) for k > 0,   g = sigmoid(logits)

Twin: `torch_ref/distributions/zero_inflated.py`. Source: Lambert, "Zero-inflated Poisson
regression" (Technometrics 1992), eq. 1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.special import log_sigmoid
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.univariate import Univariate
from jaxprob.distributions.validation import align, as_parameters
from jaxprob.types import Array, Key, Numbers

__all__ = ["ZeroInflated"]


class ZeroInflated(Univariate):
    """A distribution of counts that is 0 more often than its base.

    Args:
      base: A distribution of counts, e.g. `Poisson`.
      logits: Log-odds g / (1 - g) of an extra zero.

    Raises:
      ValueError: A base that is not a distribution over counts.
    """

    arg_constraints = {"logits": constraints.real}
    _ends = (0.0, float("inf"))

    def __init__(self, base: Distribution, logits: Numbers):
        if not isinstance(base, Univariate) or not base.support.discrete:
            raise ValueError(
                f"ZeroInflated: base must be a distribution over counts such as Poisson or "
                f"NegativeBinomial; got {base!r}."
            )
        (logits,) = as_parameters("ZeroInflated", self.arg_constraints, logits=logits)
        shape = np.broadcast_shapes(base.batch_shape, logits.shape)
        self._base = jax.tree.map(
            lambda leaf: jnp.broadcast_to(align(leaf, len(shape)), shape), base
        )
        dtype = jnp.result_type(logits, *jax.tree.leaves(base))
        self._logits = jnp.broadcast_to(logits.astype(dtype), shape)

    @property
    def base(self) -> Univariate:
        """The distribution of the counts without the extra zeros."""
        return self._base

    @property
    def logits(self) -> Array:
        """Log-odds of an extra zero `[*batch]`."""
        return self._logits

    @property
    def support(self) -> constraints.Constraint:
        """The support of the base."""
        return self._base.support

    def _parameters(self) -> tuple[Array, ...]:
        return (self._logits, *self._base._parameters())

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        return self._base._bounds(*parameters[1:])

    def _log_density(self, x: Array, logits: Array, *base: Array) -> Array:
        kept = log_sigmoid(-logits) + self._base._density_at(x, *base)
        at_zero = jnp.logaddexp(log_sigmoid(logits), kept)
        return jnp.where(x == 0.0, at_zero, kept)

    def _tails(self, x: Array, logits: Array, *base: Array) -> Tails:
        upper = log_sigmoid(-logits) + self._base._tails(x, *base).log_upper()
        return Tails(upper, False)

    def _sample_n(self, key: Key, n: int) -> Array:
        zero_key, base_key = jax.random.split(key)
        shape = (n, *self.batch_shape)
        extra = jax.random.bernoulli(zero_key, jax.nn.sigmoid(self._logits)[None], shape)
        return jnp.where(extra, 0, self._base._sample_n(base_key, n))

    def mean(self) -> Array:
        """Returns (1 - g) times the mean of the base."""
        return jax.nn.sigmoid(-self._logits) * self._base.mean()

    def variance(self) -> Array:
        """Returns (1 - g) (v + g m^2) with the mean m and the variance v of the base."""
        kept, extra = jax.nn.sigmoid(-self._logits), jax.nn.sigmoid(self._logits)
        return kept * (self._base.variance() + extra * self._base.mean() ** 2)

    def mode(self) -> Array:
        """Returns 0 or the mode of the base, whichever is likelier."""
        mode = self._base.mode().astype(self._logits.dtype)
        at_zero = self._log_density(jnp.zeros_like(mode), *self._parameters())
        return jnp.where(self._log_density(mode, *self._parameters()) > at_zero, mode, 0.0)

    def entropy(self) -> Array:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        from jaxprob.distributions.summation import entropy_of_counts

        return entropy_of_counts(self)

    def _shown_fields(self) -> dict[str, Any]:
        return {"base": self._base, "logits": self._logits}
