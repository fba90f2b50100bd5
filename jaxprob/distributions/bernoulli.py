"""The Bernoulli distribution: log p(1) = log p, log p(0) = log(1 - p).

Twin: `torch_ref/distributions/bernoulli.py`.
"""

from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.validation import draw_dtype
from jaxprob.types import Array, Key, Numbers

__all__ = ["Bernoulli"]


class Bernoulli(LogitsOrProbs, distrax.Bernoulli):
    """Bernoulli distribution over 0 and 1.

    From distrax: `prob`.

    Args:
      logits: Log-odds of 1.
      probs: Probability of 1; give one of the two.
      dtype: Of the draws.
    """

    arg_constraints = SUCCESS_CONSTRAINTS
    _ends = (0.0, 1.0)

    def __init__(
        self, logits: Numbers | None = None, probs: Numbers | None = None, dtype: Any = jnp.int32
    ):
        self._set_success(logits, probs)
        self._event_dtype = draw_dtype(type(self).__name__, dtype)

    @property
    def support(self) -> constraints.Constraint:
        """0 and 1."""
        return constraints.boolean

    def _log_density(self, x: Array, held: Array) -> Array:
        return self._log_outcomes(x, 1.0 - x, held)

    def _gradients(self, x: Array, held: Array) -> tuple[Array, ...]:
        *_, log_p, log_q = self._success_terms(held)
        return log_p - log_q, self._outcomes_gradient(x, 1.0 - x, held)

    def _tails(self, x: Array, held: Array) -> Tails:
        log_zero = self._times_log_failure(jnp.ones_like(x), held)
        log_one = self._times_log_success(jnp.ones_like(x), held)
        zero_is_rare = log_zero < log_one
        return Tails(jnp.where(zero_is_rare, log_zero, log_one), zero_is_rare)

    def _tail_probabilities(self, x: Array, held: Array) -> tuple[Array, Array]:
        success, failure, *_ = self._success_terms(held)
        return jnp.broadcast_to(failure, x.shape), jnp.broadcast_to(success, x.shape)

    def _sample_n(self, key: Key, n: int) -> Array:
        draws = jax.random.bernoulli(key, self.probs[None], (n, *self.batch_shape))
        return draws.astype(self._event_dtype)

    def mean(self) -> Array:
        """Returns p."""
        return self.probs

    def variance(self) -> Array:
        """Returns p (1 - p)."""
        return self.probs * self._failure_probs

    def stddev(self) -> Array:
        """Returns sqrt(p (1 - p))."""
        return jnp.sqrt(self.variance())

    def mode(self) -> Array:
        """Returns 1 where p > 1/2, else 0."""
        return (self.probs > 0.5).astype(self._event_dtype)

    def entropy(self) -> Array:
        """Returns -p log p - (1 - p) log(1 - p)."""
        (held,) = self._parameters()
        p, q = self.probs, self._failure_probs
        return -self._times_log_success(p, held) - self._times_log_failure(q, held)
