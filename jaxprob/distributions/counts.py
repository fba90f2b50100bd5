"""Counts without an upper end and with one parameter.

    Poisson    log p(k) = k log m - m - log k! = -D(k, m) - mu(k) - log(2 pi k) / 2
    Geometric  log p(k) = k log(1 - p) + log p, k failures before the first success

Twin: `torch_ref/distributions/counts.py`. Source: Johnson, Kemp & Kotz, "Univariate Discrete
Distributions", 3rd ed., ch. 4 and 5; C. Loader (2000) for the first.
"""

import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs
from jaxprob.distributions.poisson_draws import poisson_draws
from jaxprob.distributions.special import digamma, log1p, log_sigmoid, poisson_log_density
from jaxprob.distributions.tails import Tails, gamma_tails
from jaxprob.distributions.univariate import Univariate, draw_uniform, parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["Geometric", "Poisson"]


class Poisson(Univariate):
    """Poisson distribution of counts.

    Args:
      rate: Mean (>= 0).
    """

    arg_constraints = {"rate": constraints.non_negative}
    _ends = (0.0, float("inf"))

    def __init__(self, rate: Numbers):
        self._set(rate=rate)

    rate = parameter("rate", "Rate `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The counts 0, 1, 2, ..."""
        return constraints.non_negative_integer

    def _log_density(self, x: Array, rate: Array) -> Array:
        return poisson_log_density(x, rate)

    def _gradients(self, x: Array, rate: Array) -> tuple[Array, ...]:
        return jnp.log(rate) - digamma(x + 1.0), jnp.where(x == 0.0, -1.0, (x - rate) / rate)

    def _tails(self, x: Array, rate: Array) -> Tails:
        x, rate = jnp.broadcast_arrays(x, rate)
        tails = gamma_tails(x + 1.0, rate, whole=True)  # P(X <= k) = P(Gamma(k + 1) > rate)
        return Tails(tails.log_tail, ~jnp.asarray(tails.is_lower))

    def _sample_n(self, key: Key, n: int) -> Array:
        return poisson_draws(key, jnp.broadcast_to(self._rate, (n, *self.batch_shape)))

    def mean(self) -> Array:
        """Returns rate."""
        return self._rate

    def variance(self) -> Array:
        """Returns rate."""
        return self._rate

    def mode(self) -> Array:
        """Returns the largest integer up to rate."""
        return jnp.floor(self._rate)

    def entropy(self) -> Array:
        """Returns -sum_k p(k) log p(k) in nats, by summation."""
        from jaxprob.distributions.summation import entropy_of_counts

        return entropy_of_counts(self)


class Geometric(LogitsOrProbs):
    """Geometric distribution: failures before the first success.

    Say `probs=` or `logits=`: torch takes the former by position.

    Args:
      logits: Log-odds of a success.
      probs: Probability of a success; give one of the two.
    """

    arg_constraints = SUCCESS_CONSTRAINTS
    _ends = (0.0, float("inf"))

    def __init__(self, *, logits: Numbers | None = None, probs: Numbers | None = None):
        self._set_success(logits, probs)

    @property
    def support(self) -> constraints.Constraint:
        """The counts 0, 1, 2, ..."""
        return constraints.non_negative_integer

    def _log_density(self, x: Array, held: Array) -> Array:
        return self._log_outcomes(jnp.ones_like(x), x, held)

    def _gradients(self, x: Array, held: Array) -> tuple[Array, ...]:
        return self._success_terms(held)[3], self._outcomes_gradient(jnp.ones_like(x), x, held)

    def _tails(self, x: Array, held: Array) -> Tails:
        return Tails(self._times_log_failure(x + 1.0, held), False)

    def _tail_probabilities(self, x: Array, held: Array) -> tuple[Array, Array]:
        if self._probs is None:
            return super()._tail_probabilities(x, held)
        certain = held == 1.0  # where log(1 - p) is infinite
        none = jnp.where(certain, (1.0 - held) ** (x + 1.0), 0.0)
        lower, upper = super()._tail_probabilities(x, jnp.where(certain, 0.5, held))
        return jnp.where(certain, 1.0 - none, lower), jnp.where(certain, none, upper)

    def _sample_n(self, key: Key, n: int) -> Array:
        (held,) = self._parameters()
        log_u = jnp.log(draw_uniform(key, (n, *self.batch_shape), held.dtype))
        return jnp.floor(log_u / self._success_terms(held)[3][None])

    def mean(self) -> Array:
        """Returns (1 - p) / p."""
        return jnp.exp(-self.logits)

    def variance(self) -> Array:
        """Returns (1 - p) / p^2."""
        return jnp.exp(-self.logits) / self.probs

    def mode(self) -> Array:
        """Returns 0."""
        return jnp.zeros_like(self.probs)

    def entropy(self) -> Array:
        """Returns (-p log p - (1 - p) log(1 - p)) / p."""
        (held,) = self._parameters()
        if self._probs is None:
            # -log p + (1 - p) / p * -log(1 - p), where p may have underflowed: log(1 + u) / u
            u = jnp.exp(jnp.minimum(held, 80.0))
            tiny = u < jnp.finfo(u.dtype).eps
            ratio = jnp.where(tiny, 1.0, log1p(u) / jnp.where(tiny, 1.0, u))
            return ratio - log_sigmoid(held)
        p, q = self.probs, self._failure_probs
        inner = self._times_log_success(p, held) + self._times_log_failure(q, held)
        return -inner / p
