"""The distribution of a function of a random variable: Y = f(X), f a bijection.

    log p(y) = log p_X(f^-1(y)) + log|det d f^-1(y) / dy|
    F(y) = F_X(f^-1(y)) where f rises, 1 - F_X(f^-1(y)) where it falls;   Q(q) = f(Q_X(q)) likewise

Twin: `torch_ref/distributions/transformed.py`.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.validation import align, unchecked
from jaxprob.types import Array, Key, Numbers

__all__ = ["Transformed"]


class Transformed(Distribution, distrax.Transformed):
    """The image of a distribution under a bijector.

    Args:
      distribution: Distribution of X.
      bijector: Any `distrax.Bijector`, among them those of `constraints.to_constrained`. It must
        not add batch axes: give the base the full batch shape.
    """

    def __init__(self, distribution: Distribution, bijector: Any):
        super().__init__(distribution, bijector)
        shape = self._out_spec().shape
        lost = len(shape) - self.bijector.event_ndims_out
        if shape[:lost] != distribution.batch_shape:
            raise ValueError(
                f"Transformed: the bijector turns batch_shape {distribution.batch_shape} into "
                f"{shape[:lost]}. Give the distribution the full batch shape instead."
            )

    def _out_spec(self) -> jax.ShapeDtypeStruct:
        base = self._distribution
        shape = base.batch_shape + base.event_shape
        dummy = jax.ShapeDtypeStruct(shape, base.dtype)
        return jax.eval_shape(self._bijector.forward, dummy)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._distribution.batch_shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event."""
        shape = self._out_spec().shape
        return shape[len(shape) - self._bijector.event_ndims_out :]

    @property
    def dtype(self):
        """Type of the events."""
        return self._out_spec().dtype

    @property
    def reparameterized(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base has a pathwise gradient."""
        return getattr(self._distribution, "reparameterized", False)

    @property
    def support(self) -> constraints.Constraint:
        """The image of the base's support is not known in general: real numbers."""
        return constraints.real

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`; -inf where f^-1 does not exist."""
        value = self._event(value).astype(self.dtype)
        x, log_det = self._bijector.inverse_and_log_det(value)
        axes = tuple(range(-len(self._distribution.event_shape), 0))
        known = jnp.all(jnp.isfinite(x), axis=axes) if axes else jnp.isfinite(x)
        inside = known[(...,) + (None,) * len(axes)]
        with unchecked():
            log_prob = self._distribution.log_prob(jnp.where(inside, x, 0.0))
        ndim = max(log_prob.ndim, known.ndim)
        total = align(log_prob, ndim) + align(jnp.where(known, log_det, 0.0), ndim)
        total = jnp.where(align(known, ndim), total, -jnp.inf)
        if self.event_shape:
            unknown = jnp.any(jnp.isnan(value), axis=tuple(range(-len(self.event_shape), 0)))
        else:
            unknown = jnp.isnan(value)
        return jnp.where(align(unknown, ndim), jnp.nan, total)

    def _sample_n(self, key: Key, n: int) -> Array:
        return jax.vmap(self._bijector.forward)(self._distribution.sample(seed=key, sample_shape=n))

    def _sample_n_and_log_prob(self, key: Key, n: int) -> tuple[Array, Array]:
        # Forward only: bijectors without an inverse are welcome here.
        return distrax.Transformed._sample_n_and_log_prob(self, key, n)

    def _rises(self) -> Array:
        """Where f rises, judged by two quantiles of the base."""
        ends = [jnp.asarray(self._distribution.quantile(q)) for q in (0.25, 0.75)]
        low, high = (jax.lax.stop_gradient(self._bijector.forward(x)) for x in ends)
        return high >= low

    def _only_numbers(self, what: str) -> None:
        if self.event_shape != ():
            raise NotImplementedError(f"Transformed has no {what} for vectors.")

    def _through(self, value: Numbers, rising: str, falling: str, ends: tuple[float, float]):
        self._only_numbers("cdf")
        value = self._event(value).astype(self.dtype)
        x = self._bijector.inverse(value)
        known = ~jnp.isnan(x)
        with unchecked():
            up = getattr(self._distribution, rising)(jnp.where(known, x, 0.0))
            down = getattr(self._distribution, falling)(jnp.where(known, x, 0.0))
        rises = align(self._rises(), up.ndim)
        # Outside of the image of f: below it or above it.
        middle = self._bijector.forward(self._distribution.quantile(0.5))
        outside = jnp.where(align(value, up.ndim) < align(middle, up.ndim), *ends)
        return jnp.where(align(known, up.ndim), jnp.where(rises, up, down), outside)

    def cdf(self, value: Numbers) -> Array:
        """Returns P(Y <= value)."""
        return self._through(value, "cdf", "survival_function", (0.0, 1.0))

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(Y > value)."""
        return self._through(value, "survival_function", "cdf", (1.0, 0.0))

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(Y <= value)."""
        return self._through(value, "log_cdf", "log_survival_function", (-jnp.inf, 0.0))

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(Y > value)."""
        return self._through(value, "log_survival_function", "log_cdf", (0.0, -jnp.inf))

    def _invert(self, lower: Array, upper: Array) -> Array:
        self._only_numbers("quantiles")
        ndim = max(lower.ndim, upper.ndim, len(self.batch_shape))
        rises = align(self._rises(), ndim)
        low, high = align(lower, ndim), align(upper, ndim)
        x = self._distribution._invert(jnp.where(rises, low, high), jnp.where(rises, high, low))
        return self._bijector.forward(x)

    def median(self) -> Array:
        """Returns f(median of X)."""
        self._only_numbers("median")
        return self._bijector.forward(self._distribution.median())

    def _shown_fields(self) -> dict[str, Any]:
        return {"distribution": self._distribution, "bijector": self._bijector}
