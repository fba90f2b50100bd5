"""Mixtures of one family in log space: log p(x) = logsumexp_k (log w_k + log p_k(x)).

Twin of `jaxprob/distributions/mixture.py`.
"""

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.quantiles import monotone_quantile

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution, torch.distributions.MixtureSameFamily):
    """torch's mixture with an exact gradient of the log-sum-exp, quantiles and both tails."""

    def _log_weights(self) -> Tensor:
        return torch.log_softmax(self.mixture_distribution.logits, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value) `[*batch]`."""
        component = self.component_distribution.log_prob(self._pad(value))
        return log_sum_exp(component + self._log_weights(), dim=-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value) of scalar events."""
        weights = self._log_weights().exp()
        return (weights * self.component_distribution.cdf(self._pad(value))).sum(dim=-1)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value) of scalar events."""
        weights = self._log_weights().exp()
        upper = self.component_distribution.survival_function(self._pad(value))
        return (weights * upper).sum(dim=-1)

    def icdf(self, value: Tensor) -> Tensor:
        """Returns the quantile of scalar events."""
        q = torch.as_tensor(value, dtype=self.mean.dtype)
        q = q.expand(torch.broadcast_shapes(q.shape, self.batch_shape))
        ends = self.component_distribution.quantile(q.unsqueeze(-1))
        return monotone_quantile(
            q, self.cdf, self.survival_function, ends.amin(dim=-1), ends.amax(dim=-1)
        )
