"""The multinomial distribution: counts of K classes among n draws.

    log p(x) = log n! - sum_k log x_k! + sum_k x_k log p_k
             = mu(n) + log(2 pi n) / 2 - sum_k (D(x_k, n p_k) + mu(x_k) + log(2 pi x_k) / 2)

where the sums of mu and of the logarithms go over x_k > 0.

Twin: `torch_ref/distributions/multinomial.py`. Source: Johnson, Kotz & Balakrishnan, "Discrete
Multivariate Distributions" (1997), ch. 35.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.binomial import Binomial
from jaxprob.distributions.binomial_draws import binomial_draws
from jaxprob.distributions.categorical import (
    CLASS_CONSTRAINTS,
    ClassProbabilities,
    check_classes,
)
from jaxprob.distributions.classes import class_covariance, class_variance, log_softmax, log_total
from jaxprob.distributions.logits import require_one
from jaxprob.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    deviance,
    log_ratio,
)
from jaxprob.distributions.summation import expected_over_counts
from jaxprob.distributions.validation import align, as_parameters
from jaxprob.types import Array, Key, Numbers

__all__ = ["Multinomial"]


class Multinomial(ClassProbabilities, distrax.Multinomial):
    """Multinomial distribution over vectors of counts.

    From distrax: `log_of_probs`, `num_trials`.

    Args:
      total_count: Number of draws n, an integer >= 0, `[*batch]`.
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`, normalised if they are not; give one of the two.
    """

    arg_constraints = {"total_count": constraints.non_negative_integer, **CLASS_CONSTRAINTS}

    def __init__(
        self, total_count: Numbers, logits: Numbers | None = None, probs: Numbers | None = None
    ):
        require_one("Multinomial", logits, probs)
        name, value = ("probs", probs) if logits is None else ("logits", logits)
        self._total_count, array = as_parameters(
            "Multinomial", self.arg_constraints, {name: 1},
            total_count=total_count, **{name: value},  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        check_classes("Multinomial", name, array)
        self._logits = None if logits is None else log_softmax(array)
        self._probs = None if probs is None else array

    @property
    def total_count(self) -> Array:
        """Number of draws `[*batch]`."""
        return self._total_count

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(K,)`."""
        return (self.num_categories,)

    @property
    def support(self) -> constraints.Constraint:
        """Vectors of counts that sum to total_count."""
        total = self._total_count

        def test(value, xp):
            counts = xp.all((value >= 0) & (value == xp.floor(value)), axis=-1)
            summed, expected = xp.sum(value, axis=-1), xp.asarray(total)
            ndim = max(summed.ndim, expected.ndim)
            summed = summed.reshape((1,) * (ndim - summed.ndim) + summed.shape)
            expected = expected.reshape((1,) * (ndim - expected.ndim) + expected.shape)
            return counts.reshape(summed.shape) & (summed == expected)

        return constraints.Constraint(
            "a vector of counts that sum to total_count",
            test,
            "Take total_count = value.sum(-1).",
            event_ndims=1,
            discrete=True,
            bounds=(total,),
        )

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`; -inf off the support."""
        value = self._event(value)
        allowed = self.support.check(value)
        ndim = max(value.ndim, self._held.ndim)
        x = align(value, ndim).astype(self._held.dtype)
        x = jnp.where(allowed[..., None], x, 0.0)
        n = jnp.where(allowed, align(self._total_count, ndim - 1), 0.0)
        empty = n == 0.0
        safe_n = jnp.where(empty, 1.0, n)
        means = safe_n[..., None] * align(self.probs, ndim)
        some = x > 0.0
        held = align(self._held, ndim)
        if self._logits is None:  # the logarithm of an excluded class must not be taken
            peak, top, rest = log_total(held)
            ratio = log_ratio(jnp.where(some & ~top, held, 1.0), jnp.where(top, 1.0, peak))
            log_probs = jnp.where(top | ~some, 0.0, ratio) - rest
        else:
            log_probs = jnp.where(some, held, 0.0)
        log_means = jnp.log(safe_n)[..., None] + log_probs
        counts = jnp.where(some, x, 1.0)
        factorial = binet(counts) + 0.5 * jnp.log(counts) + HALF_LOG_TWO_PI
        terms = -deviance(x, means, log_means) - jnp.where(some, factorial, 0.0)
        constant = binet(safe_n) + 0.5 * jnp.log(safe_n) + HALF_LOG_TWO_PI
        log_prob = jnp.where(empty, 0.0, jnp.sum(terms, axis=-1) + constant)
        log_prob = jnp.where(allowed, log_prob, -jnp.inf)
        unknown = jnp.any(jnp.isnan(align(value, ndim)), axis=-1)
        return jnp.where(unknown, jnp.nan, log_prob)

    def prob(self, value: Numbers) -> Array:
        """Returns p(value)."""
        return jnp.exp(self.log_prob(value))

    def marginal(self) -> Binomial:
        """Returns the binomial distribution of each count."""
        return Binomial(self._total_count[..., None], probs=jnp.minimum(self.probs, 1.0))

    def _sample_n(self, key: Key, n: int) -> Array:
        shape = (n, *self.batch_shape, self.num_categories)
        probs = jnp.broadcast_to(jax.lax.stop_gradient(self.probs), shape)
        probs = jnp.moveaxis(probs, -1, 0)
        left = jax.lax.cumsum(probs, reverse=True)
        safe = jnp.where(left == 0.0, 1.0, left)
        later = jnp.concatenate([left[1:], jnp.zeros_like(left[:1])])

        def of_class(rest: Array, given: tuple[Key, Array, Array]) -> tuple[Array, Array]:
            # Each takes a binomial share of what the classes before it have left.
            count = binomial_draws(given[0], rest, given[1], given[2])
            return rest - count, count

        keys = jax.random.split(key, len(probs))
        trials = jnp.broadcast_to(jax.lax.stop_gradient(self._total_count), shape[:-1])
        shares = (keys, jnp.minimum(probs / safe, 1.0), jnp.minimum(later / safe, 1.0))
        return jnp.moveaxis(jax.lax.scan(of_class, trials, shares)[1], 0, -1)

    def mean(self) -> Array:
        """Returns n p `[*batch, K]`."""
        return self._total_count[..., None] * self.probs

    def variance(self) -> Array:
        """Returns n p (1 - p) `[*batch, K]`."""
        return self._total_count[..., None] * class_variance(self.probs)

    def covariance(self) -> Array:
        """Returns n (diag(p) - p p^T) `[*batch, K, K]`."""
        return self._total_count[..., None, None] * class_covariance(self.probs)

    def entropy(self) -> Array:
        """Returns the entropy `[*batch]` in nats, by a sum over the counts of each class.

        -E log p(X) in the form that the density has; each term needs the count of one class only.
        """
        n = self._total_count
        counts = self.marginal()
        means = n[..., None] * self.probs
        log_means = jnp.log(jnp.where(n == 0.0, 1.0, n))[..., None] + self.logits

        def term(x: Array) -> Array:
            some = x > 0.0
            safe = jnp.where(some, x, 1.0)
            factorial = binet(safe) + 0.5 * jnp.log(safe) + HALF_LOG_TWO_PI
            inner = deviance(safe, means, jnp.where(some, log_means, 0.0)) + factorial
            return jnp.where(some, inner, means)

        expected = jnp.sum(expected_over_counts(counts, term), axis=-1)
        safe_n = jnp.where(n == 0.0, 1.0, n)
        constant = binet(safe_n) + 0.5 * jnp.log(safe_n) + HALF_LOG_TWO_PI
        return jnp.where(n == 0.0, 0.0, expected - constant)

    def _shown_fields(self) -> dict[str, Any]:
        return {"total_count": self._total_count, **super()._shown_fields()}
