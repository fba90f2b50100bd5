"""The posterior predictive: an equally weighted mixture over posterior draws.

    p(y | x, data) = (1 / S) sum_s p(y | x, w_s),   w_s ~ p(w | data)

    aleatoric  = mean_s Var[y | w_s]          epistemic = Var_s E[y | w_s]
    mutual information I(y; w) = H[p(y | x, data)] - mean_s H[p(y | x, w_s)]

Over classes the variances are those of the indicator of each class, and the entropies are sums:

    aleatoric_k = mean_s p_sk (1 - p_sk)   epistemic_k = Var_s p_sk
    I(y; w) = H[mean_s p_s] - mean_s H[p_s]

The two variances add up to the variance of the mixture (law of total variance). Computing with the
mixture rather than with moments keeps its tails and its modes: the intervals are quantiles of the
mixture.

Twin: `torch_ref/distributions/predictive.py`. Source: Depeweg et al., "Decomposition of uncertainty
in Bayesian deep learning" (ICML 2018), eqs. 1-4.
"""

import math
from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.mixture import MixtureSameFamily, move_batch_axis
from jaxprob.distributions.special import log_sum
from jaxprob.distributions.summation import expected_over_counts
from jaxprob.distributions.univariate import Univariate
from jaxprob.types import Array

__all__ = ["Predictive"]

# The trapezoidal rule over z in [-7, 7] converges faster than any power of the step for analytic
# integrands; Gauss-Hermite of the same cost misses a narrow component inside a wide one (3e-4 nats
# where one is five times narrower; this rule: 1e-7).
ENTROPY_NODES = 113
ENTROPY_RANGE = 7.0


class Predictive(MixtureSameFamily):
    """Equally weighted mixture of S predictions, one for each posterior draw.

    It is a distribution like any other (`log_prob`, `sample`, `mean`, `variance`, `interval`,
    `quantile`, `prob_above`, `median`), batch shape `[B]`, and splits its uncertainty.

    From distrax: `batch_shape`, `components_distribution`, `event_shape`,
    `mixture_distribution`.

    Args:
      components: The predictions, draws leading: batch shape `[S, B]`.

    Raises:
      ValueError: Components without a leading axis of draws.
    """

    def __init__(self, components: Any):
        if not isinstance(components, distrax.Distribution):
            raise ValueError(
                f"Predictive: components must be a distribution; got {type(components).__name__}. "
                "A model must return a distribution: end it with a head of jaxprob.heads."
            )
        batch = components.batch_shape
        if len(batch) < 1 or batch[0] < 1:
            raise ValueError(
                f"Predictive: components have batch_shape {batch}; expected a leading axis of "
                "posterior draws, [S, ...]."
            )
        # The draws move behind the batch, so that a vmap over the whole object stays in front.
        moved = move_batch_axis(components, 0, len(batch) - 1)
        dtype = jnp.result_type(*jax.tree.leaves(moved), float)
        dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
        # The barrier keeps XLA from folding the softmax of these constants at compile time, slowly.
        logits = jax.lax.optimization_barrier(jnp.zeros(moved.batch_shape, dtype))
        super().__init__(distrax.Categorical(logits=logits), moved)

    @property
    def num_draws(self) -> int:
        """Number of posterior draws S."""
        return self.components_distribution.batch_shape[-1]

    @property
    def components(self) -> distrax.Distribution:
        """The prediction of each draw, draws leading: batch shape `[S, *batch]`."""
        return move_batch_axis(self.components_distribution, len(self.batch_shape), 0)

    @property
    def probs(self) -> Array:
        """Probabilities mean_s P(y | w_s): of each class `[*batch, K]`, or of 1 for coin flips.

        Raises:
          AttributeError: Components that are not over classes.
        """
        inner = getattr(self.components_distribution, "distribution", self.components_distribution)
        if not isinstance(inner, distrax.Categorical | distrax.Bernoulli):
            raise AttributeError(
                f"Predictive: {inner.name} has no probs; it is not a distribution over classes."
            )
        return jnp.mean(inner.probs, axis=len(self.batch_shape))

    def mode(self) -> Array:
        """Returns the most probable class.

        Raises:
          NotImplementedError: Components that are not over classes: a mixture's mode has no closed
            form.
        """
        outcomes = self._outcomes()
        if outcomes is None:
            raise NotImplementedError(
                "Predictive: the mode of a mixture has no closed form; use median() or mean()."
            )
        best = jnp.argmax(jnp.mean(outcomes, axis=-2), axis=-1)
        inner = self.components_distribution
        if isinstance(inner, distrax.OneHotCategorical):
            return jax.nn.one_hot(best, outcomes.shape[-1], dtype=inner.dtype)
        return best.astype(inner.dtype)

    def entropy(self) -> Array:
        """Returns the entropy of the mixture `[*batch]` in nats.

        Exact over classes; for other scalar events the mean entropy of the components and the
        mutual information, by its sum or quadrature.

        Raises:
          NotImplementedError: Events with several elements.
        """
        outcomes = self._outcomes()
        if self.event_shape != () and not isinstance(
            self.components_distribution, distrax.OneHotCategorical
        ):
            raise NotImplementedError(
                "Predictive: the entropy of a mixture over vectors has no closed form; estimate it "
                "by -mean(log_prob(sample))."
            )
        if outcomes is not None:
            return _entropy(jnp.mean(outcomes, axis=-2))
        inner = self.components_distribution.entropy()
        return self.mutual_information + jnp.mean(inner, axis=-1)

    def _outcomes(self) -> Array | None:
        """Probabilities of every class under each draw, `[*batch(, *event), S, K]`, or None."""
        inner = self.components_distribution
        if isinstance(inner, distrax.Categorical):
            return inner.probs
        marginal = self.marginal().components_distribution
        if isinstance(marginal, distrax.Bernoulli):
            return jnp.stack([1.0 - marginal.probs, marginal.probs], axis=-1)
        return marginal.probs if isinstance(marginal, distrax.Categorical) else None

    def _class_probs(self) -> Array | None:
        """The same where the events are classes, of which there is no mean: `[..., S, K]`."""
        inner = self.components_distribution
        inner = getattr(inner, "distribution", inner)
        return self._outcomes() if isinstance(inner, distrax.Categorical) else None

    @property
    def aleatoric(self) -> Array:
        """Variance that no amount of data removes, mean_s Var[y | w_s]: `[*batch, *event]`.

        Over classes that of each indicator, `[*batch, K]`.
        """
        probs = self._class_probs()
        if probs is not None:
            return jnp.mean(probs * (1.0 - probs), axis=-2)
        return jnp.mean(self.components_distribution.variance(), axis=len(self.batch_shape))

    @property
    def epistemic(self) -> Array:
        """Variance due to not knowing the weights, Var_s E[y | w_s]: `[*batch, *event]`.

        Of angles the circular variance beyond the aleatoric one.

        Over classes that of each probability, `[*batch, K]`.
        """
        probs = self._class_probs()
        if probs is not None:
            return jnp.var(probs, axis=-2)
        if self.periodic:
            return self._average_event(self._spread()[1])
        return jnp.var(self.components_distribution.mean(), axis=len(self.batch_shape))

    @property
    def mutual_information(self) -> Array:
        """Information that y would give on the weights, I(y; w) in nats, for each marginal.

        Exact over classes and a sum over counts. Else integrated over each component by the
        trapezoidal rule in z, y = Q_s(Phi(z)). Of the two forms

            I = mean_s E[log r_s(y)],  y ~ p_s   =   E[mean_s r_s log r_s],  y ~ p = mean_s p_s

        with r_s = p_s / p the second is taken: what is averaged stays between 0 and log S, and
        hardly changes where a narrow component stands inside a wide one.

        Returns:
          `[*batch, *event]` (`[*batch]` over classes), between 0 and log S up to the error of the
          quadrature.
        """
        outcomes = self._outcomes()
        if outcomes is not None:
            information = _entropy(jnp.mean(outcomes, axis=-2)) - jnp.mean(_entropy(outcomes), -1)
            return jnp.maximum(information, 0.0)
        components = self.marginal().components_distribution

        def information_at(y: Array, log_probs: Callable[[Array], Array]) -> Array:
            # y [*batch, *event, S], one point of each component; their densities [..., S, S]
            logs = jax.vmap(log_probs, in_axes=-1, out_axes=-2)(y)
            log_ratio = logs - (log_sum(logs) - math.log(logs.shape[-1]))[..., None]
            ratio = jnp.exp(log_ratio)
            return jnp.mean(ratio * jnp.where(ratio > 0.0, log_ratio, 0.0), axis=-1)

        if isinstance(components, Univariate) and components.support.discrete:

            def between(k: Array) -> Array:  # a formula that holds between counts too
                aligned = components._aligned(k[..., None])
                return components._density_at(*aligned)

            of_each = expected_over_counts(components, lambda k: information_at(k, between))
            return jnp.mean(of_each, axis=-1)
        nodes = np.linspace(-ENTROPY_RANGE, ENTROPY_RANGE, ENTROPY_NODES)
        weights = np.exp(-0.5 * nodes**2)
        dtype = components.mean().dtype

        def weighted_information(node_and_weight: Array) -> Array:
            node, weight = node_and_weight
            y = components.from_standard_normal(node)  # [*batch, *event, S]
            each = information_at(y, lambda point: components.log_prob(point[..., None]))
            return weight * jnp.mean(each, axis=-1)

        pairs = jnp.asarray(np.stack([nodes, weights / weights.sum()], axis=1), dtype)
        return jnp.sum(jax.lax.map(weighted_information, pairs), axis=0)

    def _shown_fields(self) -> dict[str, Any]:
        return {"draws": self.num_draws, "components": self.components_distribution}


def _entropy(probs: Array) -> Array:
    """-sum_k p log p in nats, a class of probability zero adding nothing."""
    return -jnp.sum(jax.scipy.special.xlogy(probs, probs), axis=-1)
