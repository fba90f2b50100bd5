"""Classes: as an index and as a one-hot vector.

    log p(k) = logits_k - log sum_j exp(logits_j)

Twin: `torch_ref/distributions/categorical.py`.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.classes import class_variance, log_softmax, log_total, sums_after
from jaxprob.distributions.logits import require_one
from jaxprob.distributions.special import (
    log_sum,
    log_sum_weighted,
    scale_by_log,
)
from jaxprob.distributions.validation import (
    align,
    as_parameters,
    check_event,
    check_values,
    draw_dtype,
)
from jaxprob.types import Array, Key, Numbers

__all__ = ["Categorical", "ClassProbabilities", "OneHotCategorical", "check_classes"]

CLASS_CONSTRAINTS = {
    "logits": constraints.real._replace(
        name="a number below infinity (not NaN)",
        test=lambda value, xp: value < xp.inf,
        event_ndims=0,
    ),
    "probs": constraints.non_negative._replace(
        name="non-negative (>= 0) and finite",
        test=lambda value, xp: (value >= 0) & (value < xp.inf),
        fix="Probabilities are normalised, but none may be negative; or pass logits.",
    ),
}


def check_classes(owner: str, name: str, array: Array) -> None:
    """Checks that no row of logits or probabilities excludes every class."""
    none = 0.0 if name == "probs" else -jnp.inf
    some = constraints.Constraint(
        "possible for at least one class",
        lambda value, xp: xp.any(value > none, axis=-1),
        "A row excludes every class; look for a mask that hides all of them.",
        event_ndims=1,
    )
    check_values(owner, name, array, some)


class ClassProbabilities(Distribution):
    """K probabilities, given as logits or as themselves, and used in the form in which they came.

    Unnormalised probabilities are normalised, as in torch.distributions. A probability of exactly
    0 is allowed, with finite gradients in all others.
    """

    arg_constraints = CLASS_CONSTRAINTS
    _logits: Any  # an array; None where probs were given
    _probs: Any  # an array; None where logits were given

    def _set_classes(self, logits: Numbers | None, probs: Numbers | None) -> None:
        owner = type(self).__name__
        require_one(owner, logits, probs)
        name, value = ("probs", probs) if logits is None else ("logits", logits)
        (array,) = as_parameters(owner, self.arg_constraints, {name: 1}, **{name: value})  # pyright: ignore[reportArgumentType]
        check_classes(owner, name, array)
        self._logits = None if logits is None else log_softmax(array)
        self._probs = None if probs is None else array

    @property
    def name(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def _held(self) -> Array:
        return self._probs if self._logits is None else self._logits  # pyright: ignore[reportReturnType]

    @property
    def num_categories(self) -> int:
        """Number of classes K."""
        return self._held.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._held.shape[:-1]

    @property
    def logits(self) -> Array:
        """Log-probabilities `[*batch, K]`, normalised."""
        if self._logits is not None:
            return self._logits
        return jnp.log(self._probs) - jnp.log(self._total)

    @property
    def probs(self) -> Array:
        """Probabilities `[*batch, K]`, normalised."""
        if self._logits is not None:
            return jnp.exp(self._logits)
        # in units of the largest, so that no square of a probability is needed
        share = self._probs / jax.lax.stop_gradient(jnp.max(self._probs, -1, keepdims=True))  # pyright: ignore[reportArgumentType]
        return share / jnp.sum(share, axis=-1, keepdims=True)

    @property
    def _total(self) -> Array:
        return jnp.sum(self._probs, axis=-1, keepdims=True)  # pyright: ignore[reportArgumentType]

    def _weighted_log_probs(self, weights: Array) -> Array:
        """Returns sum_k weights_k log p_k, with 0 log 0 = 0, for weights `[..., K]`."""
        held = align(self._held, weights.ndim)
        if self._logits is not None:
            none = weights == 0.0
            return jnp.sum(jnp.where(none, 0.0, weights * jnp.where(none, 0.0, held)), axis=-1)
        peak, top, rest = log_total(held)
        others = jnp.where(top, 0.0, weights)
        logs = jnp.sum(scale_by_log(others, jnp.where(top, 1.0, held)), axis=-1)
        logs = logs - jnp.sum(others, axis=-1) * jnp.log(peak[..., 0])
        return logs - jnp.sum(weights, axis=-1) * rest[..., 0]

    def _entropy_of_classes(self) -> Array:
        return -self._weighted_log_probs(self.probs)

    def _draw_classes(self, key: Key, n: int) -> Array:
        logits = self._held if self._logits is not None else jnp.log(self._held)
        return jax.random.categorical(key, logits, shape=(n, *self.batch_shape))

    def _float_dtype(self) -> Any:
        return self._held.dtype

    def _shown_fields(self) -> dict[str, Any]:
        return {"probs": self._probs} if self._logits is None else {"logits": self._logits}


class Categorical(ClassProbabilities, distrax.Categorical):
    """Distribution over the classes 0, ..., K - 1.

    From distrax: `logits_parameter`.

    Args:
      logits: Unnormalised log-probabilities `[*batch, K]`; -inf excludes a class.
      probs: Probabilities `[*batch, K]`, normalised if they are not; give one of the two.
      dtype: Of the draws.
    """

    def __init__(
        self, logits: Numbers | None = None, probs: Numbers | None = None, dtype: Any = jnp.int32
    ):
        self._set_classes(logits, probs)
        self._event_dtype = draw_dtype(type(self).__name__, dtype)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `()`."""
        return ()

    @property
    def support(self) -> constraints.Constraint:
        """The integers 0, ..., K - 1."""
        last = self.num_categories - 1
        return constraints.integer_interval(0, last)._replace(
            name=f"a class, one of 0, ..., {last}", fix="Check the labels and the number of logits."
        )

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value), shape of `value` broadcast with the batch; -inf off the support."""
        value = self._event(value)
        allowed = self.support.check(value)
        log_prob = self._weighted_log_probs(self._one_hot(jnp.where(allowed, value, 0)))
        log_prob = jnp.where(align(allowed, log_prob.ndim), log_prob, -jnp.inf)
        return jnp.where(align(jnp.isnan(value), log_prob.ndim), jnp.nan, log_prob)

    def prob(self, value: Numbers) -> Array:
        """Returns p(value)."""
        return jnp.exp(self.log_prob(value))

    def _one_hot(self, value: Array) -> Array:
        ndim = max(value.ndim, len(self.batch_shape))
        classes = jnp.arange(self.num_categories).reshape((1,) * ndim + (-1,))
        shape = jnp.broadcast_shapes(value.shape, self.batch_shape)
        chosen = align(value, ndim)[..., None] == classes.astype(value.dtype)
        return jnp.broadcast_to(chosen, (*shape, self.num_categories)).astype(self._held.dtype)

    def _up_to(self, value: Numbers) -> tuple[Array, Array]:
        anything = constraints.real._replace(discrete=True)
        array = check_event("Categorical", value, self.batch_shape, (), anything)
        ndim = max(array.ndim, len(self.batch_shape))
        classes = jnp.arange(self.num_categories).reshape((1,) * ndim + (-1,))
        array = jnp.floor(align(array, ndim).astype(self._held.dtype))[..., None]
        return classes.astype(array.dtype) <= array, align(self.probs, ndim + 1)

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X <= value)."""
        below, probs = self._up_to(value)
        return _sum_of_chosen(below, probs)

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X <= value), accurate in both tails."""
        return self._log_tail(self._up_to(value)[0])

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X > value), accurate in both tails."""
        return self._log_tail(~self._up_to(value)[0])

    def _log_tail(self, chosen: Array) -> Array:
        """Log-probability of the chosen classes `[..., K]`, by their sum or by that of the rest."""
        if self._logits is not None:
            logs = align(self._logits, chosen.ndim)
            inner = log_sum(jnp.where(chosen, logs, -jnp.inf))
            rest = jnp.exp(log_sum(jnp.where(chosen, -jnp.inf, logs)))
        else:
            probs = align(self.probs, chosen.ndim)
            within = jnp.where(chosen, probs, 0.0)
            inner = log_sum_weighted(jnp.zeros_like(within), within)
            rest = jnp.sum(jnp.where(chosen, 0.0, probs), axis=-1)
        small = rest > 0.5
        return jnp.where(small, inner, jnp.log1p(-jnp.where(small, 0.5, rest)))

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X > value)."""
        below, probs = self._up_to(value)
        return _sum_of_chosen(~below, probs)

    def _invert(self, lower: Array, upper: Array) -> Array:
        probs = self.probs
        eps = jnp.finfo(probs.dtype).eps
        slack = 16 * eps
        cdf = jnp.cumsum(probs, axis=-1)
        after = sums_after(probs)
        ndim = max(lower.ndim, len(self.batch_shape))
        low, high = align(lower, ndim)[..., None], align(upper, ndim)[..., None]
        reached = jnp.where(
            low <= 0.5,
            align(cdf, ndim + 1) >= low * (1.0 - slack),
            (align(after, ndim + 1) <= high * (1.0 + slack)) | (align(cdf, ndim + 1) >= low - eps),
        )
        reached = reached.at[..., -1].set(True)
        return jnp.argmax(reached, axis=-1)

    def _sample_n(self, key: Key, n: int) -> Array:
        return self._draw_classes(key, n).astype(self._event_dtype)

    def mode(self) -> Array:
        """Returns the likeliest class, the first of equals."""
        return jnp.argmax(self._held, axis=-1)

    def entropy(self) -> Array:
        """Returns -sum_k p_k log p_k."""
        return self._entropy_of_classes()


class OneHotCategorical(ClassProbabilities, distrax.OneHotCategorical):
    """Distribution over one-hot vectors `[K]`.

    From distrax: `logits_parameter`.

    Args:
      logits: Unnormalised log-probabilities `[*batch, K]`; -inf excludes a class.
      probs: Probabilities `[*batch, K]`, normalised if they are not; give one of the two.
      dtype: Of the draws.
    """

    def __init__(
        self, logits: Numbers | None = None, probs: Numbers | None = None, dtype: Any = jnp.int32
    ):
        self._set_classes(logits, probs)
        self._event_dtype = draw_dtype(type(self).__name__, dtype)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(K,)`."""
        return (self.num_categories,)

    @property
    def support(self) -> constraints.Constraint:
        """One-hot vectors."""
        return constraints.one_hot

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`; -inf off the support."""
        value = self._event(value)
        allowed = self.support.check(value)
        x = jnp.where(allowed[..., None], value, 0).astype(self._held.dtype)
        ndim = max(x.ndim, self._held.ndim)
        log_prob = self._weighted_log_probs(align(x, ndim))
        log_prob = jnp.where(align(allowed, ndim - 1), log_prob, -jnp.inf)
        unknown = jnp.any(jnp.isnan(value), axis=-1)
        return jnp.where(align(unknown, ndim - 1), jnp.nan, log_prob)

    def prob(self, value: Numbers) -> Array:
        """Returns p(value)."""
        return jnp.exp(self.log_prob(value))

    def cdf(self, value: Numbers) -> Array:
        """Vectors have no order here; see `marginal`."""
        raise NotImplementedError("OneHotCategorical has no cdf; its marginal() has.")

    log_cdf = survival_function = log_survival_function = cdf

    def marginal(self) -> Distribution:
        """Returns the Bernoulli distribution of each entry."""
        from jaxprob.distributions.bernoulli import Bernoulli

        return Bernoulli(probs=jnp.minimum(self.probs, 1.0))

    def _sample_n(self, key: Key, n: int) -> Array:
        return jax.nn.one_hot(
            self._draw_classes(key, n), self.num_categories, dtype=self._event_dtype
        )

    def mean(self) -> Array:
        """Returns the probabilities."""
        return self.probs

    def variance(self) -> Array:
        """Returns p (1 - p) of each entry."""
        return class_variance(self.probs)

    def mode(self) -> Array:
        """Returns the likeliest class as a one-hot vector."""
        best = jnp.argmax(self._held, axis=-1)
        return jax.nn.one_hot(best, self.num_categories, dtype=self._event_dtype)

    def entropy(self) -> Array:
        """Returns -sum_k p_k log p_k."""
        return self._entropy_of_classes()


def _sum_of_chosen(chosen: Array, probs: Array) -> Array:
    """Sum of the chosen probabilities `[..., K]`, or 1 less the rest's, whose gradient is small."""
    inner, rest = (jnp.sum(jnp.where(c, probs, 0.0), axis=-1) for c in (chosen, ~chosen))
    return jnp.where(rest < 0.5, 1.0 - rest, inner)
