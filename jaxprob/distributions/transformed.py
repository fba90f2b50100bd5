"""The distribution of a function of a random variable: Y = f(X), f a bijection.

    log p(y) = log p_X(f^-1(y)) + log|det d f^-1(y) / dy|
    F(y) = F_X(f^-1(y)) where f rises, 1 - F_X(f^-1(y)) where it falls;   Q(q) = f(Q_X(q)) likewise

Twin: `torch_ref/distributions/transformed.py`.
"""

from functools import partial
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

    From distrax: `bijector`, `distribution`.

    Args:
      distribution: Distribution of X.
      bijector: Any `distrax.Bijector`, among them those of `constraints.to_constrained`. It must
        not add batch axes: give the base the full batch shape.
    """

    def __init__(self, distribution: Distribution, bijector: Any):
        super().__init__(distribution, bijector)
        self._batch_ndims = len(distribution.batch_shape)  # where the bijector was given
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
        return jax.eval_shape(self._forward, dummy)

    def _each(self, method: str, x: Array, event_ndims: int) -> Any:
        """Calls a method of the bijector on x `[..., *batch, *event]`.

        Batch axes that `vmap` has added lie in front of all arrays of the bijector too; over these
        it is mapped, since it may align its arrays from the right.
        """
        call = lambda bijector, x: getattr(bijector, method)(x)  # noqa: E731
        batch = self._distribution.batch_shape
        added = len(batch) - self._batch_ndims
        if added <= 0:
            return call(self._bijector, x)
        x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, batch + (1,) * event_ndims))
        first = x.ndim - event_ndims - len(batch)
        axes, front = tuple(range(first, first + added)), tuple(range(added))
        for _ in range(added):
            call = jax.vmap(call)
        out = call(self._bijector, jnp.moveaxis(x, axes, front))
        return jax.tree.map(lambda array: jnp.moveaxis(array, front, axes), out)

    def _forward(self, x: Array) -> Array:
        return self._each("forward", x, self._bijector.event_ndims_in)

    def __getitem__(self, index: Any) -> "Transformed":
        """Returns the distribution with its batch axes indexed."""
        if len(self._distribution.batch_shape) == self._batch_ndims:
            return Transformed(self._distribution[index], self._bijector)
        raise NotImplementedError(
            "Transformed: a batch axis that vmap has added can't be indexed; index inside the "
            "mapped function, or the base distribution before it is transformed."
        )

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
        known, value_inside = self._inside(value)
        x, log_det = self._inverse_and_log_det(value_inside)
        with unchecked():
            log_prob = self._distribution.log_prob(x)
        ndim = max(log_prob.ndim, known.ndim)
        total = align(log_prob, ndim) + align(log_det, ndim)
        total = jnp.where(align(known, ndim), total, -jnp.inf)
        if self.event_shape:
            unknown = jnp.any(jnp.isnan(value), axis=tuple(range(-len(self.event_shape), 0)))
        else:
            unknown = jnp.isnan(value)
        return jnp.where(align(unknown, ndim), jnp.nan, total)

    def _inverse_and_log_det(self, value: Array) -> tuple[Array, Array]:
        return self._each("inverse_and_log_det", value, self._bijector.event_ndims_out)

    def _inside(self, value: Array) -> tuple[Array, Array]:
        """Where f^-1 is finite `[..., *batch]`, and `value` with a point of the image elsewhere.

        At an end of the image the gradient of f^-1 is infinite. Masked afterwards, it would still
        make the whole gradient NaN.
        """
        x = jax.lax.stop_gradient(self._each("inverse", value, self._bijector.event_ndims_out))
        axes = tuple(range(-len(self._distribution.event_shape), 0))
        known = jnp.all(jnp.isfinite(x), axis=axes) if axes else jnp.isfinite(x)
        base = self._distribution
        zeros = jnp.zeros(base.batch_shape + base.event_shape, x.dtype)
        middle = jax.lax.stop_gradient(self._forward(zeros))
        chosen = known[(...,) + (None,) * len(self.event_shape)]
        middle = align(middle, max(value.ndim, middle.ndim))
        return known, jnp.where(chosen, value, middle)

    def mean(self) -> Array:
        """Returns f(mean of X) where f is linear.

        Raises:
          NotImplementedError: Any other f.
        """
        if self._bijector.is_constant_jacobian:
            return self._forward(self._distribution.mean())
        raise NotImplementedError(
            "Transformed has a mean for linear bijectors alone; average draws."
        )

    def mode(self) -> Array:
        """Returns f(mode of X) where the Jacobian's determinant is constant.

        Raises:
          NotImplementedError: Any other f.
        """
        if self._bijector.is_constant_log_det:
            return self._forward(self._distribution.mode())
        raise NotImplementedError(
            "Transformed has a mode for bijectors with a constant log-determinant alone."
        )

    def entropy(self, input_hint: Array | None = None) -> Array:
        """Returns the entropy of X plus log|det df / dx|, where the latter is constant.

        Args:
          input_hint: An x at which the constant is computed, where zeros are none.

        Raises:
          NotImplementedError: Any other f.
        """
        base = self._distribution
        if not self._bijector.is_constant_log_det:
            raise NotImplementedError(
                "Transformed has an entropy for bijectors with a constant log-determinant alone; "
                "average -log_prob over draws."
            )
        x = jnp.zeros(base.batch_shape + base.event_shape, base.dtype)
        x = x if input_hint is None else input_hint
        log_det = self._each("forward_log_det_jacobian", x, self._bijector.event_ndims_in)
        return base.entropy() + log_det

    def _sample_n(self, key: Key, n: int) -> Array:
        return jax.vmap(self._forward)(self._distribution.sample(seed=key, sample_shape=n))

    def _sample_n_and_log_prob(self, key: Key, n: int) -> tuple[Array, Array]:
        # Forward only: bijectors without an inverse are welcome here.
        x, log_prob = self._distribution.sample_and_log_prob(seed=key, sample_shape=n)
        call = partial(self._each, "forward_and_log_det", event_ndims=self._bijector.event_ndims_in)
        y, log_det = jax.vmap(call)(x)
        return y, log_prob - log_det

    def _rises(self) -> Array:
        """Where f rises, judged by two quantiles of the base."""
        ends = [jnp.asarray(self._distribution.quantile(q)) for q in (0.25, 0.75)]
        low, high = (jax.lax.stop_gradient(self._forward(x)) for x in ends)
        return high >= low

    def _only_numbers(self, what: str) -> None:
        if self.event_shape != ():
            raise NotImplementedError(f"Transformed has no {what} for vectors.")

    def _through(self, value: Numbers, rising: str, falling: str, ends: tuple[float, float]):
        self._only_numbers("cdf")
        value = self._event(value).astype(self.dtype)
        known, inside = self._inside(value)
        x = self._each("inverse", inside, 0)
        with unchecked():
            up = getattr(self._distribution, rising)(x)
            down = getattr(self._distribution, falling)(x)
        rises = align(self._rises(), up.ndim)
        # Outside of the image of f: below it or above it.
        middle = self._forward(self._distribution.quantile(0.5))
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
        return self._forward(x)

    def median(self) -> Array:
        """Returns f(median of X)."""
        self._only_numbers("median")
        return self._forward(self._distribution.median())

    def _shown_fields(self) -> dict[str, Any]:
        return {"distribution": self._distribution, "bijector": self._bijector}
