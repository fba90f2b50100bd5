"""A point mass: P(X = loc) = 1.

Twin: `torch_ref/distributions/deterministic.py`.
"""

import distrax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["Deterministic"]


class Deterministic(Univariate, distrax.Deterministic):
    """The distribution of a constant.

    From distrax: `atol`, `rtol`.

    Args:
      loc: The constant, any shape.
    """

    arg_constraints = {"loc": constraints.real}
    reparameterized = True
    _may_be_infinite = ("loc",)

    def __init__(self, loc: Numbers):
        self._set(loc=loc)

    loc = parameter("loc", "The constant `[*batch]`.")

    @property
    def slack(self) -> Array:
        """Tolerance of the comparison with `loc`: 0."""
        return jnp.zeros_like(self._loc)

    @property
    def atoms(self) -> Array:
        """The only possible value of each member of the batch."""
        return self._loc

    def _bounds(self, *parameters: Array) -> tuple[Array, Array]:
        return parameters[0], parameters[0]

    def _log_density(self, x: Array, loc: Array) -> Array:
        return jnp.where(x == loc, 0.0, -jnp.inf)

    def _tails(self, x: Array, loc: Array) -> Tails:
        return Tails(jnp.zeros_like(x), x >= loc)

    def _quantile(self, lower: Array, upper: Array, loc: Array) -> Array:
        del upper
        return jnp.broadcast_to(loc, lower.shape)

    def _sample_n(self, key: Key, n: int) -> Array:
        del key
        return jnp.broadcast_to(self._loc[None], (n, *self.batch_shape))

    def prob(self, value: Numbers) -> Array:
        """Returns 1 where value is loc, else 0."""
        return jnp.exp(self.log_prob(value))

    def mean(self) -> Array:
        """Returns loc."""
        return self._loc

    def median(self) -> Array:
        """Returns loc."""
        return self._loc

    def mode(self) -> Array:
        """Returns loc."""
        return self._loc

    def variance(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self._loc)

    def stddev(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self._loc)

    def entropy(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self._loc)
