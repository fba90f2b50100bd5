"""Continuous relaxations of Bernoulli and one-hot draws, with pathwise gradients.

    RelaxedBernoulli: y = sigmoid((logits + L) / temperature), L standard logistic
    RelaxedOneHotCategorical: y = softmax((logits + G) / temperature), G standard Gumbel
        log p(y) = log Gamma(K) + (K - 1) log t + sum_k (l_k - (t + 1) log y_k)
                   - K log sum_k exp(l_k - t log y_k)

At temperature 0 they would be discrete; at any other they are densities, not probabilities.

Twin: `torch_ref/distributions/relaxed.py`. Source: Maddison, Mnih & Teh (2017), eqs. 4 and 10;
Jang, Gu & Poole (2017).
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.categorical import CLASS_CONSTRAINTS, check_classes
from jaxprob.distributions.logits import SUCCESS_CONSTRAINTS, LogitsOrProbs, require_one
from jaxprob.distributions.special import log1p, log_sigmoid, log_sum
from jaxprob.distributions.tails import Tails, lower_half
from jaxprob.distributions.univariate import parameter, probability_logs
from jaxprob.distributions.validation import align, as_parameters
from jaxprob.types import Array, Key, Numbers

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]


class RelaxedBernoulli(LogitsOrProbs):
    """Concrete distribution over the unit interval.

    Args:
      temperature: t (> 0); small values push draws to the ends.
      logits: Log-odds of the end 1.
      probs: Probability of the end 1; give one of the two.
    """

    arg_constraints = {"temperature": constraints.positive, **SUCCESS_CONSTRAINTS}
    reparameterized = True
    _inside = 0.5
    _ends = (0.0, 1.0)

    def __init__(
        self, temperature: Numbers, logits: Numbers | None = None, probs: Numbers | None = None
    ):
        self._set_success(logits, probs, temperature=temperature)

    temperature = parameter("temperature", "Temperature `[*batch]`.")

    @property
    def support(self) -> constraints.Constraint:
        """The unit interval, ends included."""
        return constraints.unit_interval

    def _as_logits(self, held: Array) -> Array:
        _, _, log_p, log_q = self._success_terms(held)
        return held if self._probs is None else log_p - log_q

    def _log_density(self, x: Array, temperature: Array, held: Array) -> Array:
        edge = (x <= 0.0) | (x >= 1.0)
        inside = jnp.where(edge, 0.5, x)
        log_x, log_y = jnp.log(inside), log1p(-inside)
        z = self._as_logits(held) - temperature * (log_x - log_y)
        inner = jnp.log(temperature) + log_sigmoid(z) + log_sigmoid(-z)
        inner = inner - log_x - log_y
        sign = jnp.where(x <= 0.0, -1.0, 1.0)
        finite = jnp.log(temperature) + sign * self._as_logits(held)
        limit = jnp.where(temperature < 1.0, jnp.inf, jnp.where(temperature > 1.0, -jnp.inf, 0.0))
        return jnp.where(edge, finite + limit, inner)

    def _tails(self, x: Array, temperature: Array, held: Array) -> Tails:
        edge = (x <= 0.0) | (x >= 1.0)
        inside = jnp.where(edge, 0.5, x)
        z = temperature * (jnp.log(inside) - log1p(-inside)) - self._as_logits(held)
        log_tail = log_sigmoid(lower_half(z))
        return Tails(jnp.where(edge, -jnp.inf, log_tail), jnp.where(edge, x <= 0.0, z <= 0.0))

    def _quantile(self, lower: Array, upper: Array, temperature: Array, held: Array) -> Array:
        log_lower, log_upper = probability_logs(lower, upper)
        return jax.nn.sigmoid((self._as_logits(held) + log_lower - log_upper) / temperature)

    def _sample_n(self, key: Key, n: int) -> Array:
        temperature, held = self._parameters()
        noise = jax.random.logistic(key, (n, *self.batch_shape), temperature.dtype)
        y = jax.nn.sigmoid((self._as_logits(held)[None] + noise) / temperature[None])
        # Rounded to 0 or 1 a draw would have an infinite density.
        limits = jnp.finfo(y.dtype)
        return jnp.clip(y, limits.tiny, 1.0 - limits.epsneg)


class RelaxedOneHotCategorical(Distribution):
    """Concrete distribution over the interior of the simplex.

    Args:
      temperature: t (> 0) `[*batch]`; small values push draws to the corners.
      logits: Unnormalised log-probabilities `[*batch, K]`.
      probs: Probabilities `[*batch, K]`, normalised if they are not; give one of the two.
    """

    arg_constraints = {"temperature": constraints.positive, **CLASS_CONSTRAINTS}
    reparameterized = True

    def __init__(
        self, temperature: Numbers, logits: Numbers | None = None, probs: Numbers | None = None
    ):
        require_one("RelaxedOneHotCategorical", logits, probs)
        name, value = ("probs", probs) if logits is None else ("logits", logits)
        self._temperature, array = as_parameters(
            "RelaxedOneHotCategorical", self.arg_constraints, {name: 1},
            temperature=temperature, **{name: value},  # pyright: ignore[reportArgumentType]
        )  # fmt: skip
        check_classes("RelaxedOneHotCategorical", name, array)
        logits = array if probs is None else jnp.log(array)
        self._logits = jax.nn.log_softmax(logits, axis=-1)

    @property
    def temperature(self) -> Array:
        """Temperature `[*batch]`."""
        return self._temperature

    @property
    def logits(self) -> Array:
        """Log-probabilities of the corners `[*batch, K]`, normalised."""
        return self._logits

    @property
    def probs(self) -> Array:
        """Probabilities of the corners `[*batch, K]`."""
        return jnp.exp(self._logits)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._temperature.shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(K,)`."""
        return self._logits.shape[-1:]

    @property
    def support(self) -> constraints.Constraint:
        """The interior of the simplex."""
        return constraints.simplex_interior

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]`; -inf off the support."""
        value = self._event(value)
        allowed = self.support.check(value)
        ndim = max(value.ndim, self._logits.ndim)
        x = align(value, ndim).astype(jnp.result_type(value.dtype, self._logits.dtype))
        allowed = align(allowed, ndim - 1)
        size = x.shape[-1]
        log_x = jnp.log(jnp.where(allowed[..., None], x, 1.0 / size))
        t = align(self._temperature, ndim - 1)
        scores = align(self._logits, ndim) - t[..., None] * log_x
        log_prob = jnp.sum(scores - log_x, axis=-1) - size * log_sum(scores)
        log_prob = log_prob + math.lgamma(size) + (size - 1) * jnp.log(t)
        log_prob = jnp.where(allowed, log_prob, -jnp.inf)
        unknown = align(jnp.any(jnp.isnan(value), axis=-1), ndim - 1)
        return jnp.where(unknown, jnp.nan, log_prob)

    def _sample_n(self, key: Key, n: int) -> Array:
        dtype = self._logits.dtype
        noise = jax.random.gumbel(key, (n, *self._logits.shape), dtype)
        y = jax.nn.softmax((self._logits[None] + noise) / self._temperature[None, ..., None])
        # Rounded to 0 an entry would have no logarithm.
        return jnp.maximum(y, jnp.finfo(dtype).tiny)

    def _shown_fields(self):
        return {"temperature": self._temperature, "logits": self._logits}
