"""A point mass: P(X = loc) = 1, with a tolerance around it as distrax has it.

    p(x) = 1 where |x - loc| <= atol + rtol |loc|, else 0;   F(x) = 1 where x >= loc - that slack

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

    Args:
      loc: The constant, any shape.
      atol: How far from `loc` a value still counts as equal to it (>= 0); None for 0.
      rtol: The same relative to |loc|, added to `atol` (>= 0); None for 0.
    """

    arg_constraints = {
        "loc": constraints.real,
        "atol": constraints.non_negative,
        "rtol": constraints.non_negative,
    }
    reparameterized = True
    _dense = False
    _may_be_infinite = ("loc",)

    def __init__(self, loc: Numbers, atol: Numbers | None = None, rtol: Numbers | None = None):
        self._set(loc=loc, atol=0.0 if atol is None else atol, rtol=0.0 if rtol is None else rtol)

    loc = parameter("loc", "The constant `[*batch]`.")
    atol = parameter("atol", "Absolute tolerance `[*batch]`.")
    rtol = parameter("rtol", "Tolerance relative to |loc| `[*batch]`.")

    @property
    def slack(self) -> Array:
        """Tolerance of the comparison with `loc` `[*batch]`."""
        return _slack(*self._parameters())

    @property
    def atoms(self) -> Array:
        """The only possible value of each member of the batch."""
        return self._loc

    def _bounds(self, *parameters: Array) -> tuple[Array, Array]:
        return parameters[0] - _slack(*parameters), parameters[0]

    def _log_density(self, x: Array, loc: Array, atol: Array, rtol: Array) -> Array:
        close = (x == loc) | (jnp.abs(x - loc) <= _slack(loc, atol, rtol))
        return jnp.where(close, 0.0, -jnp.inf)

    def _tails(self, x: Array, loc: Array, atol: Array, rtol: Array) -> Tails:
        return Tails(jnp.zeros_like(x), x >= loc - _slack(loc, atol, rtol))

    def _invert(self, lower: Array, upper: Array) -> Array:
        del upper  # a draw is the constant itself, whatever the tolerance
        lower, loc, *_ = self._aligned(lower)
        return jnp.where(jnp.isnan(lower), jnp.nan, loc)

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


def _slack(loc: Array, atol: Array, rtol: Array) -> Array:
    # 0 times an infinite constant is no number
    return atol + jnp.where(rtol > 0.0, rtol * jnp.abs(loc), 0.0)
