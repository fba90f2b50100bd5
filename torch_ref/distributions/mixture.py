"""Mixtures of one family in log space: log p(x) = logsumexp_k (log w_k + log p_k(x)).

Twin of `jaxprob/distributions/mixture.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.independent import Independent
from torch_ref.distributions.quantiles import monotone_quantile
from torch_ref.distributions.special import log_sum_exp_weighted

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """A mixture whose components are one batched distribution, the last batch axis being theirs.

    torch's own clamps weights that are given as probabilities, and its log-sum-exp loses digits in
    the backward pass.

    Args:
      mixture_distribution: A Categorical (ours or torch's) over K components.
      component_distribution: The components, batch shape `[*batch, K]`.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]

    def __init__(self, mixture_distribution, component_distribution: Distribution):
        self.mixture_distribution = mixture_distribution
        self.component_distribution = component_distribution
        batch, event = component_distribution.batch_shape[:-1], component_distribution.event_shape
        super().__init__(batch, event, validate_args=False)

    @property
    def support(self):
        """The support of the components."""
        return self.component_distribution.support

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the components."""
        return self.component_distribution.float_dtype()

    def _pad(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1 - len(self.event_shape))

    def _weights(self) -> Tensor:
        return self.mixture_distribution.probs

    def _average(self, values: Tensor) -> Tensor:
        return (self._weights() * values).sum(dim=-1)

    def _average_event(self, values: Tensor) -> Tensor:
        event = len(self.event_shape)
        weights = self._weights().reshape(self._weights().shape + (1,) * event)
        return (weights * values).sum(dim=-1 - event)

    def marginal(self) -> "MixtureSameFamily":
        """Returns, for each event element, the mixture of that element's marginals."""
        if not self.event_shape:
            return self
        axis = len(self.batch_shape)
        parts = self.component_distribution.marginal()
        parameters = {name: getattr(parts, name) for name in ("loc", "scale")}
        moved = type(parts)(**{n: p.movedim(axis, -1) for n, p in parameters.items()})
        logits = torch.log(self._weights())
        for _ in self.event_shape:
            logits = logits.unsqueeze(-2)
        logits = logits.expand(moved.batch_shape)
        return MixtureSameFamily(torch.distributions.Categorical(logits=logits), moved)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value) `[*batch]`."""
        component = self.component_distribution.log_prob(self._pad(value))
        if getattr(self.mixture_distribution, "_logits", None) is None and hasattr(
            self.mixture_distribution, "_weights"
        ):
            return log_sum_exp_weighted(component, self._weights())
        logits = torch.log_softmax(self.mixture_distribution.logits, dim=-1)
        return log_sum_exp(component + logits, dim=-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value)."""
        return self._average(self.component_distribution.cdf(self._pad(value)))

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        return self._average(self.component_distribution.survival_function(self._pad(value)))

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the quantile of each marginal, by bisection; in a gap, its middle."""
        if self.event_shape:
            return self.marginal().invert(lower, upper)
        shape = torch.broadcast_shapes(lower.shape, self.batch_shape)
        q, tail = lower.expand(shape), upper.expand(shape)
        ends = self.component_distribution.invert(q.unsqueeze(-1), tail.unsqueeze(-1))
        return monotone_quantile(
            q, self.cdf, self.survival_function, ends.amin(-1), ends.amax(-1), tail, gaps=True
        )

    @property
    def mean(self) -> Tensor:
        """sum_k w_k mean_k."""
        return self._average_event(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        """sum_k w_k (variance_k + (mean_k - mean)^2)."""
        spread = (self.component_distribution.mean - self._pad(self.mean)).square()
        return self._average_event(self.component_distribution.variance + spread)

    def sample(self, sample_shape=torch.Size()) -> Tensor:  # noqa: B008
        """Returns draws."""
        inner = self.component_distribution
        if isinstance(inner, Independent):
            inner = torch.distributions.Independent(
                inner.base_dist, inner.reinterpreted_batch_ndims
            )
        choice = torch.distributions.Categorical(probs=self._weights().detach())
        mixture = torch.distributions.MixtureSameFamily(choice, inner, validate_args=False)
        return mixture.sample(sample_shape)
