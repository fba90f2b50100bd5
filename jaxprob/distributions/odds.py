"""A probability of success, given as logits or as itself, and used in whichever form it came.

Logits reach probabilities that underflow; probabilities reach 0 and 1, with the right slope there
(log p at p = 1 has slope 1, which no detour through an infinite logit can give).

Twin: `torch_ref/distributions/odds.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.special import (
    HALF_LOG_TWO_PI,
    binet,
    deviance,
    log1p,
    scale_by_log,
)
from jaxprob.distributions.univariate import Univariate
from jaxprob.types import Array, Numbers

__all__ = ["LogitsOrProbs", "binomial_log_density", "require_one"]

ODDS_CONSTRAINTS = {"logits": constraints.real, "probs": constraints.unit_interval}


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

    def _set_odds(self, logits: Numbers | None, probs: Numbers | None, **others: Numbers) -> None:
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

    def _log_odds_terms(self, odds: Array) -> tuple[Array, Array, Array, Array]:
        """p, 1 - p and their logarithms, from the parameter in the form in which it is held."""
        if self._probs is None:
            return (jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds),
                    jax.nn.log_sigmoid(odds), jax.nn.log_sigmoid(-odds))  # fmt: skip
        return odds, 1.0 - odds, jnp.log(odds), log1p(-odds)

    def _times_log_success(self, times: Array, odds: Array) -> Array:
        """Returns times * log p, 0 where times is 0."""
        if self._probs is not None:
            return scale_by_log(times, odds)
        return _times(times, jax.nn.log_sigmoid(jnp.where(times == 0.0, 0.0, odds)))

    def _times_log_failure(self, times: Array, odds: Array) -> Array:
        """Returns times * log(1 - p), 0 where times is 0."""
        if self._probs is not None:
            return _times(times, log1p(-jnp.where(times == 0.0, 0.0, odds)))
        return _times(times, jax.nn.log_sigmoid(-jnp.where(times == 0.0, 0.0, odds)))

    def _shown_fields(self) -> dict[str, Any]:
        return {
            name: getattr(self, f"_{name}")
            for name in self.arg_constraints
            if getattr(self, f"_{name}") is not None
        }


def _times(times: Array, logs: Array) -> Array:
    return jnp.where(times == 0.0, 0.0, times * logs)


def binomial_log_density(k: Array, j: Array, terms: tuple[Array, Array, Array, Array]) -> Array:
    """Returns log C(k + j, k) + k log p + j log(1 - p) for k > 0 and j > 0, not only integers.

    -D(k, n p) - D(j, n (1 - p)) + mu(n) - mu(k) - mu(j) + log(n / (2 pi k j)) / 2, n = k + j.
    """
    p, q, log_p, log_q = terms
    n = k + j
    log_n = jnp.log(n)
    saddle = -deviance(k, n * p, log_n + log_p) - deviance(j, n * q, log_n + log_q)
    root = 0.5 * (jnp.log(n / k) - jnp.log(j)) - HALF_LOG_TWO_PI
    return saddle + binet(n) - binet(k) - binet(j) + root
