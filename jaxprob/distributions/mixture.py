"""Mixtures of one family, in log space, with quantiles.

    log p(x) = logsumexp_k (log w_k + log p_k(x)),   F(x) = sum_k w_k F_k(x)

The quantile has no closed form; the quantiles of the components bracket it, and
`quantiles.monotone_quantile` closes the bracket.

Twin: `torch_ref/distributions/mixture.py`. Source: McLachlan & Peel, "Finite Mixture Models"
(2000), section 1.4.
"""

import math
from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp

from jaxprob.distributions.base import Distribution, converted
from jaxprob.distributions.circular import between_directions, from_cut, mean_direction
from jaxprob.distributions.classes import sums_after
from jaxprob.distributions.constraints import Constraint
from jaxprob.distributions.quantiles import ROUNDING, monotone_quantile, smallest_integer
from jaxprob.distributions.special import log_sum, log_sum_weighted
from jaxprob.distributions.validation import align, check_event, unchecked
from jaxprob.types import Array, Key, Numbers

__all__ = ["MixtureSameFamily", "move_batch_axis"]


class MixtureSameFamily(Distribution, distrax.MixtureSameFamily):
    """A mixture whose components are one batched distribution.

    From distrax: `batch_shape`, `components_distribution`, `event_shape`,
    `mixture_distribution`.

    Args:
      mixture_distribution: A `Categorical` with batch shape `[*batch]` over K components; both may
        be distrax's or TFP's.
      components_distribution: The components, batch shape `[*batch, K]`.

    Raises:
      ValueError: Batch shapes that do not fit, or K that differs.
    """

    def __init__(
        self,
        mixture_distribution: Any,
        components_distribution: Any,
    ):
        mixture_distribution = converted(mixture_distribution)
        components_distribution = converted(components_distribution)
        if not isinstance(mixture_distribution, distrax.Categorical):
            raise ValueError(
                "MixtureSameFamily: mixture_distribution must be a Categorical; got "
                f"{type(mixture_distribution).__name__}."
            )
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
    def periodic(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the components lie on a circle."""
        return getattr(self.components_distribution, "periodic", False)

    @property
    def support(self) -> Constraint:
        """The support of the components: a value is an event where it is one of any of them."""
        inner = getattr(self.components_distribution, "support", super().support)
        if not any(jnp.ndim(bound) for bound in inner.bounds):
            return inner
        axis = -1 - len(self.event_shape)  # of the components, which their bounds have too

        def test(value: Any, xp: Any) -> Any:
            # a test of whole events has no event axes left
            return xp.any(
                inner.test(xp.expand_dims(value, axis), xp), axis=axis + inner.event_ndims
            )

        return inner._replace(test=test)

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

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]` in nats."""
        value = self._event(value)
        with unchecked():  # an event of one component alone has density 0 under the others
            log_probs = self.components_distribution.log_prob(self._expand(value))
        return self._weigh(log_probs)

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X <= value) `[*batch]`, accurate in both tails."""
        if self.periodic:
            return super().log_cdf(value)
        value = self._shaped(value)
        lower = self._weigh(self.components_distribution.log_cdf(self._expand(value)))
        if self.event_shape != ():
            return lower
        upper = self.survival_function(value)
        near = upper < 0.5
        return jnp.where(near, jnp.log1p(-jnp.where(near, upper, 0.0)), lower)

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X > value) `[*batch]`, accurate in both tails."""
        if self.periodic:
            return super().log_survival_function(value)
        value = self._shaped(value)
        expanded = self._expand(value)
        upper = self._weigh(self.components_distribution.log_survival_function(expanded))
        if self.event_shape != ():
            return upper
        lower = self.cdf(value)
        near = lower < 0.5
        return jnp.where(near, jnp.log1p(-jnp.where(near, lower, 0.0)), upper)

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X <= value) `[*batch]`."""
        if self.periodic:
            return self._average_arc(value)[0]
        return self._average(self.components_distribution.cdf, value)

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X > value) `[*batch]`, without the cancellation of 1 - cdf."""
        if self.periodic:
            return self._average_arc(value)[1]
        return self._average(self.components_distribution.survival_function, value)

    def _average_arc(self, value: Numbers) -> tuple[Array, Array]:
        """Both tails, counted from the point opposite to the mean direction."""
        if self.event_shape != ():
            raise NotImplementedError(
                f"{self.name} has no cdf for vectors of angles; see marginal."
            )
        value = self._shaped(value)
        cut = align(self.mean() - math.pi, value.ndim)
        inside = jnp.clip(value, cut, cut + 2 * math.pi)[..., None]
        both = from_cut(self.components_distribution, inside, cut[..., None])
        weights = align(self._weights(), inside.ndim)
        lower, upper = (jnp.sum(weights * part, axis=-1) for part in both)
        return lower, upper

    def _invert(self, lower: Array, upper: Array) -> Array:
        """The search of `quantiles`; in a gap between components, the middle of the gap."""
        return _compiled_quantile(self, lower, upper)

    def _search(self, lower: Array, upper: Array) -> Array:
        if self.event_shape != ():
            return self.marginal()._invert(lower, upper)
        shape = jnp.broadcast_shapes(lower.shape, self.batch_shape)
        q, tail = (jnp.broadcast_to(align(p, len(shape)), shape) for p in (lower, upper))
        components = self.components_distribution
        atoms = getattr(components, "atoms", None)
        if atoms is not None:
            return _quantile_of_atoms(q, tail, atoms, self._weights())
        if isinstance(components, Distribution):
            ends = components._invert(q[..., None], tail[..., None])
        else:
            ends = components.quantile(q[..., None])
        ends = ends.astype(q.dtype)
        bracket = (jnp.min(ends, axis=-1), jnp.max(ends, axis=-1))
        if self.periodic:
            cut = jnp.broadcast_to(align(self.mean() - math.pi, q.ndim), q.shape)
            bracket = (cut, cut + 2 * math.pi)

        def tails(x: Array) -> tuple[Array, Array]:
            return self.cdf(x), self.survival_function(x)

        if self.support.discrete:
            return smallest_integer(q, tail, tails, *bracket)
        return monotone_quantile(q, tails, self.prob, *bracket, tail=tail, gaps=True)

    def _float_dtype(self) -> Any:
        return self._mixture_log_probs.dtype

    def _weigh(self, logs: Array) -> Array:
        """Returns log sum_k w_k exp(logs_k), with finite gradients at weights given as 0."""
        probs = getattr(self.mixture_distribution, "_probs", None)
        if probs is None:
            log_weights = align(self._mixture_log_probs, logs.ndim)
            nothing = (log_weights == -jnp.inf) & (logs == jnp.inf)
            return log_sum(jnp.where(nothing, -jnp.inf, logs) + log_weights)
        weights = probs / jnp.sum(probs, axis=-1, keepdims=True)
        return log_sum_weighted(logs, align(weights, logs.ndim))

    def _weights(self) -> Array:
        probs = getattr(self.mixture_distribution, "_probs", None)
        if probs is None:
            return jnp.exp(self._mixture_log_probs)
        return probs / jnp.sum(probs, axis=-1, keepdims=True)

    def mean(self) -> Array:
        """Returns sum_k w_k mean_k; the mean direction of angles."""
        means = self.components_distribution.mean()
        if self.periodic:
            variances = self.components_distribution.variance()
            axis = -1 - len(self.event_shape)
            return mean_direction(means, variances, self._event_weights(), axis)
        return self._average_event(means)

    def variance(self) -> Array:
        """Returns sum_k w_k (variance_k + (mean_k - mean)^2); the circular variance of angles."""
        within, between = self._spread()
        return self._average_event(within + between)

    def _spread(self) -> tuple[Array, Array]:
        """Variance of each component and that of its mean, `[*batch, K, *event]`."""
        means = self.components_distribution.mean()
        variances = self.components_distribution.variance()
        mean = jnp.expand_dims(self.mean(), means.ndim - 1 - len(self.event_shape))
        if self.periodic:
            return variances, between_directions(means, variances, mean)
        return variances, (means - mean) ** 2

    def _event_weights(self) -> Array:
        weights = self._weights()
        return weights.reshape(weights.shape + (1,) * len(self.event_shape))

    def _average_event(self, values: Array) -> Array:
        return jnp.sum(self._event_weights() * values, axis=-1 - len(self.event_shape))

    def _shaped(self, value: Numbers) -> Array:
        return check_event(self.name, value, self.batch_shape, self.event_shape)

    def _average(self, probability: Callable[[Array], Array], value: Numbers) -> Array:
        """sum_k w_k probability_k(value)."""
        of_components = probability(self._expand(self._shaped(value)))
        weights = align(self._weights(), of_components.ndim)
        return jnp.sum(weights * of_components, axis=-1)

    def _expand(self, value: Array) -> Array:
        value = jnp.expand_dims(value, axis=-1 - len(self.event_shape))
        return align(value, len(self._mixture_log_probs.shape) + len(self.event_shape))

    def _shown_fields(self) -> dict[str, Any]:
        return {
            "mixture_distribution": f"{self._mixture_log_probs.shape[-1]} components",
            "components_distribution": self.components_distribution,
        }


@jax.jit
def _compiled_quantile(mixture: MixtureSameFamily, lower: Array, upper: Array) -> Array:
    """Compiled once for each shape, so that calls outside of `jit` are quick as well."""
    return mixture._search(lower, upper)


def _quantile_of_atoms(q: Array, tail: Array, atoms: Array, weights: Array) -> Array:
    """Returns the smallest atom with a cdf of at least q; atoms and weights `[*batch, K]`."""
    order = jnp.argsort(atoms, axis=-1)
    atoms, weights = (jnp.take_along_axis(a, order, axis=-1) for a in (atoms, weights))
    slack = ROUNDING * jnp.finfo(q.dtype).eps
    below = align(jnp.cumsum(weights, axis=-1), q.ndim + 1)
    above = align(sums_after(weights), q.ndim + 1)
    low, high = q[..., None], tail[..., None]
    reached = jnp.where(low <= 0.5, below >= low * (1.0 - slack), above <= high + slack)
    reached = (reached & (align(weights, q.ndim + 1) > 0.0)).at[..., -1].set(True)
    first = jnp.argmax(reached, axis=-1)[..., None]
    atoms = jnp.broadcast_to(align(atoms, q.ndim + 1), reached.shape)
    chosen = jnp.take_along_axis(atoms, first, axis=-1)[..., 0]
    return jnp.where(jnp.isnan(q), jnp.nan, chosen)


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
