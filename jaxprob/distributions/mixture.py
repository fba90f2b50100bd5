"""Mixtures of one family, in log space, with quantiles.

    log p(x) = logsumexp_k (log w_k + log p_k(x)),   F(x) = sum_k w_k F_k(x)

The quantile has no closed form; the quantiles of the components bracket it, and
`quantiles.monotone_quantile` closes the bracket.

Twin: `torch_ref/distributions/mixture.py`. Source: McLachlan & Peel, "Finite Mixture Models"
(2000), section 1.4.
"""

from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.quantiles import monotone_quantile
from jaxprob.distributions.validation import align, check_values
from jaxprob.types import Array, ArrayLike, Key

__all__ = ["MixtureSameFamily", "move_batch_axis"]


class MixtureSameFamily(Distribution, distrax.MixtureSameFamily):
    """A mixture whose components are one batched distribution.

    Args:
      mixture_distribution: A `distrax.Categorical` with batch shape `[*batch]` over K components.
      components_distribution: The components, batch shape `[*batch, K]`.

    Raises:
      ValueError: Batch shapes that do not fit, or K that differs.
    """

    def __init__(
        self,
        mixture_distribution: distrax.Categorical,
        components_distribution: distrax.Distribution,
    ):
        logits = mixture_distribution.logits
        if logits.shape != components_distribution.batch_shape:
            raise ValueError(
                f"MixtureSameFamily: mixture_distribution has logits of shape {logits.shape}, but "
                f"components_distribution has batch_shape {components_distribution.batch_shape}; "
                "expected both to be [*batch, K], the components last."
            )
        super().__init__(mixture_distribution, components_distribution)

    @property
    def reparameterized(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """False: the choice of a component has no pathwise gradient."""
        return False

    @property
    def support(self):
        """The support of the components."""
        return getattr(self.components_distribution, "support", super().support)

    def marginal(self) -> Distribution:
        """Returns, for each event element, the mixture of that element's marginals."""
        if self.event_shape == ():
            return self
        # [*batch, K, *event] -> [*batch, *event, K]
        axis = len(self.batch_shape)
        components = move_batch_axis(
            self.components_distribution.marginal(), axis, axis + len(self.event_shape)
        )
        log_probs = self._mixture_log_probs
        for _ in self.event_shape:
            log_probs = log_probs[..., None, :]
        logits = jnp.broadcast_to(log_probs, components.batch_shape)
        return MixtureSameFamily(distrax.Categorical(logits=logits), components)

    def _sample_n(self, key: Key, n: int) -> Array:
        # Every component is drawn and one is kept: batched work instead of a gather. The mask has
        # no dtype of its own to promote with, and an infinite draw that is not kept stays out.
        choice_key, draw_key = jax.random.split(key)
        choice = self.mixture_distribution.sample(seed=choice_key, sample_shape=n)
        draws = self.components_distribution.sample(seed=draw_key, sample_shape=n)
        kept = choice[..., None] == jnp.arange(self._mixture_log_probs.shape[-1]).reshape(
            (1,) * choice.ndim + (-1,)
        )
        kept = kept.reshape(kept.shape + (1,) * len(self.event_shape))
        return jnp.sum(jnp.where(kept, draws, 0), axis=-1 - len(self.event_shape))

    def log_prob(self, value: ArrayLike) -> Array:
        """Returns log p(value) `[*batch]` in nats."""
        expanded = self._expand(self._event(value))
        log_prob = self.components_distribution.log_prob(expanded)
        return logsumexp(log_prob + align(self._mixture_log_probs, log_prob.ndim), axis=-1)

    def log_cdf(self, value: ArrayLike) -> Array:
        """Returns log P(X <= value) `[*batch]`."""
        expanded = self._expand(self._event(value))
        log_cdf = self.components_distribution.log_cdf(expanded)
        return logsumexp(log_cdf + align(self._mixture_log_probs, log_cdf.ndim), axis=-1)

    def cdf(self, value: ArrayLike) -> Array:
        """Returns P(X <= value) `[*batch]`."""
        return self._average(self.components_distribution.cdf, value)

    def survival_function(self, value: ArrayLike) -> Array:
        """Returns P(X > value) `[*batch]`, without the cancellation of 1 - cdf."""
        return self._average(self.components_distribution.survival_function, value)

    def quantile(self, q: ArrayLike) -> Array:
        """Returns the quantile of each marginal; shape of `q` broadcast with batch and event."""
        if self.event_shape != ():
            return self.marginal().quantile(q)
        check_values("MixtureSameFamily.quantile", "q", q, constraints.probability)
        components = self.components_distribution
        q = jnp.asarray(q, self._mixture_log_probs.dtype)
        q = jnp.broadcast_to(q, jnp.broadcast_shapes(q.shape, self.batch_shape))
        bounds = components.quantile(q[..., None])
        return monotone_quantile(
            q,
            self.cdf,
            self.survival_function,
            self.prob,
            lower=jnp.min(bounds, axis=-1),
            upper=jnp.max(bounds, axis=-1),
        )

    def _average(self, probability: Callable[[Array], Array], value: ArrayLike) -> Array:
        """sum_k w_k probability_k(value)."""
        of_components = probability(self._expand(self._event(value)))
        weights = align(jnp.exp(self._mixture_log_probs), of_components.ndim)
        return jnp.sum(weights * of_components, axis=-1)

    def _expand(self, value: Array) -> Array:
        value = jnp.expand_dims(value, axis=-1 - len(self.event_shape))
        return align(value, len(self._mixture_log_probs.shape) + len(self.event_shape))

    def _shown_fields(self) -> dict[str, Any]:
        return {
            "mixture_distribution": f"{self._mixture_log_probs.shape[-1]} components",
            "components_distribution": self.components_distribution,
        }


def move_batch_axis(
    distribution: distrax.Distribution, source: int, destination: int
) -> distrax.Distribution:
    """Moves one batch axis of a distribution.

    Every leaf of our distributions starts with all batch axes, so moving an axis of the
    distribution is moving that axis of each leaf.

    Args:
      distribution: Any distribution whose leaves carry the full batch shape.
      source: Batch axis to move (counted from the left, not negative).
      destination: Where it goes.

    Returns:
      The same distribution with its batch axes in the new order.

    Raises:
      ValueError: A distribution whose parameters do not carry every batch axis.
    """
    batch = len(distribution.batch_shape)
    for leaf in jax.tree.leaves(distribution):
        if leaf.shape[:batch] != distribution.batch_shape:
            raise ValueError(
                f"{distribution.name}: a parameter of shape {leaf.shape} does not carry the batch "
                f"shape {distribution.batch_shape}; broadcast the parameters against each other "
                "first (the classes of jaxprob.distributions do that themselves)."
            )
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, destination), distribution)
