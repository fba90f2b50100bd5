"""The distribution that a few quantiles state: uniform between them, exponential beyond.

    p(y) = (a_{i+1} - a_i) / (v_{i+1} - v_i)     for v_i <= y < v_{i+1}
    p(y) = f_1 e^{-(v_1 - y) f_1 / a_1}          for y < v_1, f_1 the density right of v_1

and likewise above v_Q: the density is continuous at the outermost quantiles, and P(Y <= v_i) = a_i
holds exactly.

Twin: `torch_ref/distributions/interpolated_quantiles.py`. Source: Gasthaus et al., "Probabilistic
forecasting with spline quantile function RNNs" (AISTATS 2019), with exponential tails.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.validation import align, as_parameters, check_values
from jaxprob.types import Array, Key, Numbers

__all__ = ["InterpolatedQuantiles"]

RISING = constraints.ordered


class InterpolatedQuantiles(Distribution):
    """A distribution over numbers, given by Q >= 2 of its quantiles.

    Args:
      levels: Probabilities in (0, 1), rising, `[..., Q]`.
      values: Quantiles at these levels, rising, `[*batch, Q]`, in the units of the event.

    Raises:
      ValueError: Fewer than two, or levels or values that do not rise.
    """

    arg_constraints = {"levels": constraints.unit_interval, "values": constraints.real}
    reparameterized = True

    def __init__(self, levels: Numbers, values: Numbers):
        levels, values = as_parameters(
            "InterpolatedQuantiles", self.arg_constraints, levels=levels, values=values
        )
        if values.ndim == 0 or values.shape[-1] < 2:
            raise ValueError(
                "InterpolatedQuantiles: levels and values need a last axis of at least two "
                f"quantiles; got shape {values.shape}. Write levels=(0.1, 0.9)."
            )
        check_values("InterpolatedQuantiles", "levels", levels, RISING)
        check_values("InterpolatedQuantiles", "values", values, RISING)
        self._levels, self._values = levels, values

    @property
    def levels(self) -> Array:
        """Probabilities `[*batch, Q]`."""
        return self._levels

    @property
    def values(self) -> Array:
        """Quantiles at `levels`, `[*batch, Q]`."""
        return self._values

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._values.shape[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `()`."""
        return ()

    @property
    def name(self) -> str:
        """Name of the class."""
        return "InterpolatedQuantiles"

    def _float_dtype(self) -> Any:
        return self._values.dtype

    def _lifted(self, x: Array) -> tuple[Array, Array, Array]:
        """`x` with a last axis, and levels and values with as many axes."""
        ndim = max(x.ndim, len(self.batch_shape)) + 1
        x = align(x[..., None].astype(self._values.dtype), ndim)
        return x, align(self._levels, ndim), align(self._values, ndim)

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value), shape of `value` broadcast with the batch."""
        x, levels, values = self._lifted(self._event(value))
        density, below, above = _pieces(levels, values)
        log_density = jnp.log(density)
        between = (x >= values[..., :-1]) & (x < values[..., 1:])
        inner = jnp.sum(jnp.where(between, log_density, 0.0), axis=-1)
        first, last, x = values[..., 0], values[..., -1], x[..., 0]
        lower = log_density[..., 0] + jnp.minimum(x - first, 0.0) / below
        upper = log_density[..., -1] - jnp.maximum(x - last, 0.0) / above
        return jnp.where(x < first, lower, jnp.where(x >= last, upper, inner) + 0.0 * x)

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X <= value)."""
        return self._probability(value, upper=False)

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X > value), without the cancellation of 1 - cdf."""
        return self._probability(value, upper=True)

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X <= value)."""
        return _log_of(self.cdf(value), self.survival_function(value))

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X > value)."""
        return _log_of(self.survival_function(value), self.cdf(value))

    def _probability(self, value: Numbers, upper: bool) -> Array:
        x, levels, values = self._lifted(self._event(value))
        _, below, above = _pieces(levels, values)
        share = jnp.clip((x - values[..., :-1]) / jnp.diff(values), 0.0, 1.0)
        share = 1.0 - share if upper else share
        inner = jnp.sum(jnp.diff(levels) * share, axis=-1)
        first, last, x = values[..., 0], values[..., -1], x[..., 0]
        low, high = levels[..., 0], 1.0 - levels[..., -1]
        lower = low * jnp.exp(jnp.minimum(x - first, 0.0) / below)
        beyond = high * jnp.exp(-jnp.maximum(x - last, 0.0) / above)
        # one of the two differences is 0 in each tail, exactly
        return inner + (beyond + (low - lower) if upper else lower + (high - beyond))

    def _invert(self, lower: Array, upper: Array) -> Array:
        q, levels, values = self._lifted(lower)
        tail = align(upper[..., None].astype(values.dtype), q.ndim)[..., 0]
        _, below, above = _pieces(levels, values)
        share = jnp.clip((q - levels[..., :-1]) / jnp.diff(levels), 0.0, 1.0)
        inner = values[..., 0] + jnp.sum(jnp.diff(values) * share, axis=-1)
        low, high, q = levels[..., 0], 1.0 - levels[..., -1], q[..., 0]
        is_low, is_high = q < low, tail < high
        drop = below * jnp.log(jnp.where(is_low, q, low) / low)
        rise = above * jnp.log(jnp.where(is_high, tail, high) / high)
        return inner + drop - rise

    def _sample_n(self, key: Key, n: int) -> Array:
        shape, dtype = (n, *self.batch_shape), self._values.dtype
        u = jax.random.uniform(key, shape, dtype, minval=jnp.finfo(dtype).tiny)
        return self._invert(u, 1.0 - u)

    def mean(self) -> Array:
        """Returns the mean `[*batch]`."""
        return self._moments()[0]

    def variance(self) -> Array:
        """Returns the variance `[*batch]`."""
        return self._moments()[1]

    def _moments(self) -> tuple[Array, Array]:
        levels, values = self._levels, self._values
        _, below, above = _pieces(levels, values)
        # about the middle quantile, so that a distant one does not cost digits
        origin = values[..., values.shape[-1] // 2]
        v = values - origin[..., None]
        share, left, right = jnp.diff(levels), v[..., :-1], v[..., 1:]
        low, high = levels[..., 0], 1.0 - levels[..., -1]
        down, up = v[..., 0] - below, v[..., -1] + above
        mean = jnp.sum(share * (left + right) / 2, -1) + low * down + high * up
        square = jnp.sum(share * (left**2 + left * right + right**2) / 3, -1)
        square += low * (down**2 + below**2) + high * (up**2 + above**2)
        return origin + mean, square - mean**2

    def entropy(self) -> Array:
        """Returns the entropy `[*batch]` in nats."""
        density, _, _ = _pieces(self._levels, self._values)
        logs = jnp.log(density)
        low, high = self._levels[..., 0], 1.0 - self._levels[..., -1]
        inner = -jnp.sum(jnp.diff(self._levels) * logs, axis=-1)
        return inner + low * (1.0 - logs[..., 0]) + high * (1.0 - logs[..., -1])

    def _shown_fields(self) -> dict[str, Any]:
        return {"levels": self._levels, "values": self._values}


def _pieces(levels: Array, values: Array) -> tuple[Array, Array, Array]:
    """Density between the quantiles, and the scales of the two exponential tails."""
    density = jnp.diff(levels) / jnp.diff(values)
    return density, levels[..., 0] / density[..., 0], (1.0 - levels[..., -1]) / density[..., -1]


def _log_of(p: Array, complement: Array) -> Array:
    small = p < 0.5
    log_small = jnp.log(jnp.where(small, p, 0.5))
    return jnp.where(small, log_small, jnp.log1p(-jnp.where(small, 0.5, complement)))
