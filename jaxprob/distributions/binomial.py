"""The binomial distribution and its negative.

    Binomial          log p(k) = log C(n, k) + k log p + (n - k) log(1 - p)
    NegativeBinomial  log p(k) = log C(n + k - 1, k) + n log(1 - p) + k log p

in Loader's form, where the large terms have been cancelled on paper (see `logits.py`).

Twin: `torch_ref/distributions/binomial.py`. Source: Johnson, Kemp & Kotz, "Univariate Discrete
Distributions", 3rd ed., ch. 3 and 5; C. Loader (2000).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.binomial_draws import binomial_draws
from jaxprob.distributions.gamma_draws import gamma_draws
from jaxprob.distributions.logits import (
    SUCCESS_CONSTRAINTS,
    LogitsOrProbs,
    binomial_log_density,
    times_log,
)
from jaxprob.distributions.poisson_draws import poisson_draws
from jaxprob.distributions.special import digamma, digamma_minus_log
from jaxprob.distributions.tails import Tails, beta_tails
from jaxprob.distributions.univariate import parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["Binomial", "NegativeBinomial"]


class Binomial(LogitsOrProbs):
    """Binomial distribution: successes among `total_count` trials.

    Say `probs=` or `logits=`: torch takes the former by position.

    Args:
      total_count: Number of trials n, an integer >= 0.
      logits: Log-odds of a success.
      probs: Probability of a success; give one of the two.
    """

    arg_constraints = {"total_count": constraints.non_negative_integer, **SUCCESS_CONSTRAINTS}

    def __init__(
        self, total_count: Numbers, *, logits: Numbers | None = None, probs: Numbers | None = None
    ):
        self._set_success(logits, probs, total_count=total_count)

    total_count = parameter("total_count", "Number of trials `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The integers from 0 to total_count."""
        return constraints.integer_interval(jnp.zeros_like(self._total_count), self._total_count)

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        return jnp.zeros_like(parameters[0]), parameters[0]

    def _log_density(self, x: Array, total_count: Array, held: Array) -> Array:
        rest = total_count - x
        terms = self._success_terms(held)
        *_, log_p, log_q = terms
        none, all_of_them = times_log(rest, log_q), times_log(x, log_p)
        inner = binomial_log_density(x, rest, terms)
        return jnp.where(x <= 0.0, none, jnp.where(rest <= 0.0, all_of_them, inner))

    def _gradients(self, x: Array, total_count: Array, held: Array) -> tuple[Array, ...]:
        rest = total_count - x
        *_, log_p, log_q = self._success_terms(held)
        of_rest = digamma(rest + 1.0)
        to_x = log_p - log_q + of_rest - digamma(x + 1.0)
        to_count = digamma(total_count + 1.0) - of_rest + log_q
        return to_x, to_count, self._outcomes_gradient(x, rest, held)

    def _tails(self, x: Array, total_count: Array, held: Array) -> Tails:
        x, total_count, held = jnp.broadcast_arrays(x, total_count, held)
        p, q, *_ = self._success_terms(held)
        rest = jnp.maximum(total_count - x, 0.5)  # 0 only where the caller knows the answer
        return beta_tails(rest, x + 1.0, q, p)

    def _sample_n(self, key: Key, n: int) -> Array:
        parameters = (self._total_count, self.probs, self._failure_probs)
        parameters = (jnp.broadcast_to(p, (n, *self.batch_shape)) for p in parameters)
        return binomial_draws(key, *(jax.lax.stop_gradient(p) for p in parameters))

    def mean(self) -> Array:
        """Returns n p."""
        return self._total_count * self.probs

    def variance(self) -> Array:
        """Returns n p (1 - p)."""
        return self._total_count * self.probs * self._failure_probs

    def mode(self) -> Array:
        """Returns the largest integer up to (n + 1) p, at most n."""
        return jnp.minimum(jnp.floor((self._total_count + 1.0) * self.probs), self._total_count)

    def entropy(self) -> Array:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        from jaxprob.distributions.summation import entropy_of_counts

        return entropy_of_counts(self)


class NegativeBinomial(LogitsOrProbs):
    """Negative binomial distribution: a Poisson whose rate is gamma distributed.

    `probs` is the probability of what is counted, as in torch.distributions: the mean is
    n p / (1 - p). SciPy's `nbinom` counts the other outcome: `nbinom(n, 1 - p)`.

    Args:
      total_count: Outcomes of the other kind at which counting stops, n > 0; need not be whole.
      logits: Log-odds; the mean is total_count exp(logits).
      probs: Probability; give one of the two.
    """

    arg_constraints = {"total_count": constraints.positive, **SUCCESS_CONSTRAINTS}
    _ends = (0.0, float("inf"))

    def __init__(
        self, total_count: Numbers, logits: Numbers | None = None, probs: Numbers | None = None
    ):
        self._set_success(logits, probs, total_count=total_count)

    total_count = parameter("total_count", "Dispersion `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The counts 0, 1, 2, ..."""
        return constraints.non_negative_integer

    def _log_density(self, x: Array, total_count: Array, held: Array) -> Array:
        terms = self._success_terms(held)
        inner = binomial_log_density(x, total_count, terms)
        share = jnp.log(total_count / (total_count + x))
        return jnp.where(x == 0.0, times_log(total_count, terms[3]), inner + share)

    def _gradients(self, x: Array, total_count: Array, held: Array) -> tuple[Array, ...]:
        *_, log_p, log_q = self._success_terms(held)
        total = total_count + x
        of_total = digamma_minus_log(total)
        to_x = log_p + jnp.log(total) + of_total - digamma(x + 1.0)
        to_count = log_q + jnp.log1p(x / total_count) + of_total - digamma_minus_log(total_count)
        return to_x, to_count, self._outcomes_gradient(x, total_count, held)

    def _tails(self, x: Array, total_count: Array, held: Array) -> Tails:
        x, total_count, held = jnp.broadcast_arrays(x, total_count, held)
        p, q, *_ = self._success_terms(held)
        return beta_tails(total_count, x + 1.0, q, p)

    def _sample_n(self, key: Key, n: int) -> Array:
        gamma_key, poisson_key = jax.random.split(key)
        count = jnp.broadcast_to(self._total_count, (n, *self.batch_shape))
        rate = gamma_draws(gamma_key, count) * jnp.exp(self.logits)[None]
        return poisson_draws(poisson_key, jax.lax.stop_gradient(rate))

    def mean(self) -> Array:
        """Returns n p / (1 - p)."""
        return self._total_count * jnp.exp(self.logits)

    def variance(self) -> Array:
        """Returns n p / (1 - p)^2."""
        return self.mean() / self._failure_probs

    def mode(self) -> Array:
        """Returns the largest integer up to (n - 1) p / (1 - p), at least 0."""
        return jnp.floor(jnp.maximum(self._total_count - 1.0, 0.0) * jnp.exp(self.logits))

    def entropy(self) -> Array:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        from jaxprob.distributions.summation import entropy_of_counts

        return entropy_of_counts(self)
