"""The common face of all distributions: distrax's interface, plus quantiles and intervals.

A distribution of ours is a `distrax.Distribution` that keeps arrays only (shapes are computed from
them, never cached), gives every array the full batch shape, and so survives `jit`, `vmap`, `grad`
and `jax.tree.map`, as argument and as result.

Twin: `torch_ref/distributions/base.py`.
"""

from typing import Any, ClassVar

import distrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from jaxprob.distributions import constraints
from jaxprob.distributions.validation import as_array, check_event, check_values, unchecked
from jaxprob.types import Array, ArrayLike, Key, Numbers

__all__ = ["Distribution", "converted"]


class Distribution(distrax.Distribution):
    """Base of the distributions of this package.

    Quantiles, intervals and tail probabilities are marginal: a distribution over vectors gives one
    number for each element of the event.

    From distrax come `prob`, `cross_entropy`, `stddev`, `dtype`, slices and the pytree, unless a
    class has its own; what it has from the distrax class of its name, its docstring says.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    reparameterized: bool = False
    periodic: bool = False  # over a circle: the density repeats, the moments are circular

    @property
    def support(self) -> constraints.Constraint:
        """What a value must satisfy to be an event."""
        return constraints.real

    def marginal(self) -> "Distribution":
        """Returns the marginals: scalar events, batch shape `batch_shape + event_shape`."""
        if self.event_shape == ():
            return self
        raise NotImplementedError(f"{self.name} has no closed-form marginals.")

    def quantile(self, q: ArrayLike) -> Array:
        """Returns the value that a draw stays at or below with probability `q`.

        Args:
          q: Probabilities in [0, 1], any shape that broadcasts with `batch_shape + event_shape`.

        Returns:
          Quantiles of the marginals, of the broadcast shape, in the units of the event. For counts
          the smallest k with cdf(k) >= q.
        """
        check_values(f"{self.name}.quantile", "q", q, constraints.probability)
        q = jnp.asarray(q, self._float_dtype())
        return self._invert(q, 1.0 - q)

    def inverse_survival_function(self, tail: ArrayLike) -> Array:
        """Returns the value that a draw exceeds with probability `tail`.

        It is `quantile(1 - tail)` with all the digits that a small tail has.
        """
        check_values(
            f"{self.name}.inverse_survival_function", "tail", tail, constraints.probability
        )
        tail = jnp.asarray(tail, self._float_dtype())
        lower = 1.0 - tail
        if self.support.discrete:  # a rounded cdf must not count as having reached it
            lower = jnp.where(lower > 0.5, lower + 2.0 * jnp.finfo(lower.dtype).eps, lower)
        return self._invert(lower, tail)

    def interval(self, level: float | int) -> tuple[Array, Array]:
        """Returns the central interval that holds a draw with probability `level`.

        Args:
          level: Probability in (0, 1), e.g. 0.9 for the 5 % and 95 % quantiles.

        Returns:
          Lower and upper end, each of shape `batch_shape + event_shape`, for each marginal.

        Raises:
          ValueError: A level outside (0, 1).
        """
        if not 0.0 < float(level) < 1.0:
            raise ValueError(
                f"interval: level must be a probability strictly between 0 and 1; got {level}. "
                "Write 0.9 for a 90 % interval."
            )
        tail = 0.5 * (1.0 - float(level))  # in double precision, whatever the dtype
        return self.quantile(tail), self.inverse_survival_function(tail)

    def _invert(self, lower: Array, upper: Array) -> Array:
        """Returns x with P(X <= x) = lower and P(X > x) = upper, which is 1 - lower."""
        if self.event_shape == ():
            if type(self).quantile is not Distribution.quantile:
                return self.quantile(lower)  # a user's own class may state just that
            raise NotImplementedError(f"{self.name} has no quantile function.")
        return self.marginal()._invert(lower, upper)

    def _float_dtype(self) -> Any:
        """The float dtype of the parameters."""
        return jnp.result_type(
            *[leaf for leaf in jax.tree.leaves(self) if jnp.issubdtype(leaf.dtype, jnp.floating)]
            or [float]
        )

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X > value); 1 - cdf, where a class knows no better."""
        self._require_numbers("survival function")
        return 1.0 - self.cdf(value)

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X <= value), from the smaller of the two tails."""
        self._require_numbers("cdf")
        return _log_of_tail(self.cdf(value), self.survival_function(value))

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X > value), from the smaller of the two tails."""
        self._require_numbers("survival function")
        return _log_of_tail(self.survival_function(value), self.cdf(value))

    def _require_numbers(self, what: str) -> None:
        if self.event_shape != ():
            raise NotImplementedError(
                f"{self.name} has no {what} for vectors; marginal() may have."
            )

    def prob_above(self, threshold: ArrayLike) -> Array:
        """Returns P(X > threshold) of each marginal, shape `batch_shape + event_shape`."""
        return self.marginal().survival_function(as_array(threshold))

    def from_standard_normal(self, z: ArrayLike) -> Array:
        """Returns the values with the same cdf as `z` has under N(0, 1): Q(Phi(z)).

        It turns nodes or draws of a standard normal into those of this distribution.
        """
        z = jnp.asarray(z)
        return self._invert(ndtr(z), ndtr(-z))

    def median(self) -> Array:
        """Returns the median of each marginal."""
        return self.quantile(0.5)

    def rsample(self, *, seed: Key, sample_shape: int | tuple[int, ...] = ()) -> Array:
        """Draws with a pathwise gradient; `sample` without the promise.

        Raises:
          NotImplementedError: Where the draw has no pathwise gradient.
        """
        if not self.reparameterized:
            raise NotImplementedError(
                f"{self.name} has no reparameterised draw: the gradient through its sample would "
                "be zero or wrong. Use a score-function estimator, or a relaxed distribution."
            )
        return self.sample(seed=seed, sample_shape=sample_shape)

    def kl_divergence(self, other_dist: distrax.Distribution, **kwargs: Any) -> Array:
        """Returns KL(self || other) in nats, `[*batch]`, where it has a closed form.

        Raises:
          NotImplementedError: A pair without a closed form; the message names the estimator.
        """
        from jaxprob.distributions.convert import convert

        try:
            return super().kl_divergence(convert(other_dist), **kwargs)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"KL({self.name} || {getattr(other_dist, 'name', other_dist)}) has no closed form "
                "here. Estimate it: jaxprob.distributions.monte_carlo_kl(p, q, key, num_samples)."
            ) from error

    def sample(self, *, seed: Key, sample_shape: int | tuple[int, ...] = ()) -> Array:
        """Draws events `[*sample_shape, *batch, *event]`.

        Parameters in bfloat16 or float16 are drawn from in float32, whose uniform numbers are fine
        enough for rare events and far tails, and rounded at the end.
        """
        wide = _widened(self)
        if wide is self:
            return super().sample(seed=seed, sample_shape=sample_shape)
        return _rounded(wide.sample(seed=seed, sample_shape=sample_shape), self._float_dtype())

    def sample_and_log_prob(
        self, *, seed: Key, sample_shape: int | tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Draws as `sample` does, and returns the draws and their log-densities."""
        wide = _widened(self)
        if wide is self:
            return super().sample_and_log_prob(seed=seed, sample_shape=sample_shape)
        both = wide.sample_and_log_prob(seed=seed, sample_shape=sample_shape)
        return _rounded(both[0], self._float_dtype()), _rounded(both[1], self._float_dtype())

    def _sample_n_and_log_prob(self, key: Key, n: int) -> tuple[Array, Array]:
        draws = self._sample_n(key, n)
        with unchecked():
            return draws, self.log_prob(draws)

    def __getitem__(self, index: Any) -> "Distribution":
        """Returns the distribution with its batch axes indexed."""
        index = index if isinstance(index, tuple) else (index,)
        batch = len(self.batch_shape)
        if Ellipsis in [i for i in index if not hasattr(i, "shape")]:
            at = index.index(Ellipsis)
            missing = batch - sum(i is not None for i in index) + 1
            index = index[:at] + (slice(None),) * missing + index[at + 1 :]
        return jax.tree.map(lambda leaf: leaf[index], self)

    __iter__ = None  # indexing alone would make a distribution iterable, without an end

    def _event(self, value: Numbers) -> Array:
        """Checks the shape of `value` (and its values, when concrete) and returns it as array."""
        return check_event(self.name, value, self.batch_shape, self.event_shape, self.support)

    def _shown_fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.arg_constraints}

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={_shown(v)}" for k, v in self._shown_fields().items())
        return f"{type(self).__name__}({fields})"


def converted(part: Any) -> Any:
    """Returns a part of a distribution as a class of ours where it is distrax's or TFP's own."""
    from jaxprob.distributions.convert import convert, is_distribution

    return convert(part) if is_distribution(part) else part


def _widened(distribution: Distribution) -> Distribution:
    """The distribution with float32 in place of shorter floats; itself where there are none."""

    def short(leaf: Any) -> bool:
        dtype = jnp.result_type(leaf)
        return jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32

    if not any(short(leaf) for leaf in jax.tree.leaves(distribution)):
        return distribution
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if short(leaf) else leaf, distribution
    )


def _rounded(draws: Array, dtype: Any) -> Array:
    """Draws in the dtype of the parameters; counts and classes stay integers."""
    return draws.astype(dtype) if jnp.issubdtype(draws.dtype, jnp.floating) else draws


def _log_of_tail(probability: Array, rest: Array) -> Array:
    """Returns log p for p and 1 - p, whichever is small holding all digits; -inf at p = 0."""
    none, small = probability <= 0.0, probability < 0.5
    near = jnp.log(jnp.where(small & ~none, probability, 0.5))
    return jnp.where(
        none, -jnp.inf, jnp.where(small, near, jnp.log1p(-jnp.where(small, 0.5, rest)))
    )


def _shown(value: Any) -> str:
    """Small concrete arrays by value, others by dtype and shape."""
    if not hasattr(value, "shape"):
        return repr(value)
    if isinstance(value, jax.core.Tracer) or value.size > 4:
        return f"{value.dtype}{list(value.shape)}"
    return np.array2string(np.asarray(value), separator=", ", precision=4)
