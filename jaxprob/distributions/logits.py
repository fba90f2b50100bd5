"""A probability of success, given as logits or as itself, and used in whichever form it came.

Logits reach probabilities that underflow; probabilities reach 0 and 1, with the right gradient
there (log p at p = 1 has gradient 1, which no detour through an infinite logit can give).

Twin: `torch_ref/distributions/logits.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    binet_above_one,
    log1p,
    log_sigmoid,
    minus_deviance,
    recomputed,
    scale_by_log,
    times_power,
)
from jaxprob.distributions.univariate import Univariate
from jaxprob.types import Array, Numbers

__all__ = ["LogitsOrProbs", "binomial_log_density", "require_one", "times_log"]

SUCCESS_CONSTRAINTS = {"logits": constraints.real, "probs": constraints.unit_interval}


def require_one(owner: str, logits: Any, probs: Any) -> None:
    """Raises a `ValueError` unless exactly one of the two is given."""
    if (logits is None) == (probs is None):
        raise ValueError(
            f"{owner}: give either logits or probs; got {'both' if probs is not None else 'none'}. "
            "Logits keep their digits where a probability is close to 0 or 1."
        )


class LogitsOrProbs(Univariate):
    """A family with a probability of success among its parameters."""

    _logits: Any  # an array; None where probs were given
    _probs: Any  # an array; None where logits were given

    def _set_success(
        self, logits: Numbers | None, probs: Numbers | None, **others: Numbers
    ) -> None:
        require_one(type(self).__name__, logits, probs)
        self._logits = self._probs = None
        given = {"probs": probs} if logits is None else {"logits": logits}
        self._set(**others, **given)  # pyright: ignore[reportArgumentType]

    def _parameters(self) -> tuple[Array, ...]:
        arrays = (getattr(self, f"_{name}") for name in self.arg_constraints)
        return tuple(array for array in arrays if array is not None)

    @property
    def logits(self) -> Array:
        """Log-odds of success, log p - log(1 - p), `[*batch]`."""
        if self._logits is not None:
            return self._logits
        return jnp.log(self._probs) - log1p(-self._probs)

    @property
    def probs(self) -> Array:
        """Probability of success `[*batch]`."""
        return jax.nn.sigmoid(self._logits) if self._probs is None else self._probs

    @property
    def _failure_probs(self) -> Array:
        return jax.nn.sigmoid(-self._logits) if self._probs is None else 1.0 - self._probs

    def _success_terms(self, held: Array) -> tuple[Array, Array, Array, Array]:
        """p, 1 - p and their logarithms, from the parameter in the form in which it is held."""
        if self._probs is None:
            rest = recomputed(log1p(jnp.exp(-jnp.abs(held))))
            return (*_sigmoids(held), jnp.minimum(held, 0.0) - rest,
                    jnp.minimum(-held, 0.0) - rest)  # fmt: skip
        return held, 1.0 - held, jnp.log(held), log1p(-held)

    def _log_outcomes(self, successes: Array, failures: Array, held: Array) -> Array:
        """Returns successes * log p + failures * log(1 - p), with 0 log 0 = 0."""
        if self._probs is None:
            # log p = min(odds, 0) - rest, log(1 - p) = min(-odds, 0) - rest
            against = jnp.where(held < 0.0, successes, failures)
            rest = log1p(jnp.exp(-jnp.abs(held)))
            return -times_log(against, jnp.abs(held)) - times_log(successes + failures, rest)
        failed = self._times_log_failure(failures, held)
        return self._times_log_success(successes, held) + failed

    def _outcomes_gradient(self, successes: Array, failures: Array, held: Array) -> Array:
        """Gradient of `_log_outcomes` towards the parameter."""
        if self._probs is None:
            p, q = _sigmoids(held)
            return successes * q - failures * p
        return times_power(successes, held) - times_power(failures, 1.0 - held)

    def _times_log_success(self, times: Array, held: Array) -> Array:
        """Returns times * log p, 0 where times is 0."""
        if self._probs is not None:
            return scale_by_log(times, held)
        return times_log(times, log_sigmoid(jnp.where(times == 0.0, 0.0, held)))

    def _times_log_failure(self, times: Array, held: Array) -> Array:
        """Returns times * log(1 - p), 0 where times is 0."""
        if self._probs is not None:
            return times_log(times, log1p(-jnp.where(times == 0.0, 0.0, held)))
        return times_log(times, log_sigmoid(-jnp.where(times == 0.0, 0.0, held)))

    def _shown_fields(self) -> dict[str, Any]:
        return {
            name: getattr(self, f"_{name}")
            for name in self.arg_constraints
            if getattr(self, f"_{name}") is not None
        }


def _sigmoids(held: Array) -> tuple[Array, Array]:
    """Returns p and 1 - p, both with all digits, from one exponential."""
    small = recomputed(jnp.exp(-jnp.abs(held)))  # odds of the rarer outcome
    often = recomputed(1.0 / (1.0 + small))
    rare, positive = small * often, held >= 0.0
    return jnp.where(positive, often, rare), jnp.where(positive, rare, often)


def times_log(count: Array, logs: Array) -> Array:
    """Returns count * logs, with 0 * -inf = 0."""
    return jnp.where(count == 0.0, 0.0, count * logs)


def binomial_log_density(k: Array, j: Array, terms: tuple[Array, Array, Array, Array]) -> Array:
    """Returns log C(k + j, k) + k log p + j log(1 - p) for k > 0 and j > 0, not only integers.

    -D(k, n p) - D(j, n (1 - p)) + mu(n) - mu(k) - mu(j) + log(n / (2 pi k j)) / 2, n = k + j.
    n p - k = j p - k (1 - p) = d, and n (1 - p) - j = -d, so that -D(k, n p) = k L(d / k) with
    L(w) = log(1 + w) - w, or k log(n p / k) - d where d / k is large.
    """
    p, q, log_p, log_q = terms
    n = k + j
    log_n, log_k, log_j = (recomputed(jnp.log(count)) for count in (n, k, j))
    gap = j * p - k * q
    saddle = minus_deviance(k, gap, log_n + log_p - log_k)
    saddle = saddle + minus_deviance(j, -gap, log_n + log_q - log_j)
    of_factorials = binet_above_one(n) - binet_above_one(k) - binet(j)
    return saddle + of_factorials + 0.5 * (log_n - log_k - log_j) - HALF_LOG_TWO_PI
