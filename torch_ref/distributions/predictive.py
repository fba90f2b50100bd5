"""The posterior predictive p(y | x, data) = (1 / S) sum_s p(y | x, w_s), draws leading.

Twin of `jaxprob/distributions/predictive.py`.
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.bernoulli import Bernoulli
from torch_ref.distributions.categorical import Categorical, OneHotCategorical
from torch_ref.distributions.mixture import MixtureSameFamily, move_batch_axis
from torch_ref.distributions.summation import expected_over_counts

__all__ = ["Predictive"]


class Predictive(MixtureSameFamily):
    """Equally weighted mixture over a leading axis of draws.

    Args:
      components: The prediction of each draw, batch shape `[S, *batch]`.
    """

    def __init__(self, components: Distribution):
        # the draws move behind the batch, where a mixture has its components
        moved = move_batch_axis(components, 0, len(components.batch_shape) - 1)
        equal = torch.zeros(moved.batch_shape, dtype=components.float_dtype())
        super().__init__(torch.distributions.Categorical(logits=equal), moved)

    @property
    def num_draws(self) -> int:
        """Number of posterior draws S."""
        return self.component_distribution.batch_shape[-1]

    @property
    def components(self) -> Distribution:
        """The prediction of each draw, batch shape `[S, *batch]`."""
        return move_batch_axis(self.component_distribution, len(self.batch_shape), 0)

    def marginal(self) -> "Predictive":
        """Returns the mixtures of the marginals of the components."""
        return self if not self.event_shape else Predictive(self.components.marginal())

    @property
    def variance(self) -> Tensor:
        """Variance of the mixture `[*batch, *event]`."""
        return self.aleatoric + self.epistemic

    def _classes(self) -> Tensor | None:
        """Class probabilities under each draw `[*batch, S, K]`, where there are classes."""
        inner = self.component_distribution
        if isinstance(inner, Categorical | OneHotCategorical):
            return inner.probs
        marginal = self.marginal().component_distribution
        if isinstance(marginal, Bernoulli):
            return torch.stack([1 - marginal.probs, marginal.probs], dim=-1)
        return None

    @property
    def probs(self) -> Tensor:
        """Class probabilities averaged over the draws, `[*batch, K]`; that of 1 for coin flips."""
        inner = self.component_distribution
        return getattr(inner, "base_dist", inner).probs.mean(dim=len(self.batch_shape))

    @property
    def mode(self) -> Tensor:
        """The most probable class."""
        classes = self._classes()
        if classes is None:
            raise NotImplementedError("the mode of a mixture has no closed form.")
        best = classes.mean(-2).argmax(-1)
        if isinstance(self.component_distribution, OneHotCategorical):
            return torch.nn.functional.one_hot(best, classes.shape[-1]).to(classes)
        return best.to(classes)

    def entropy(self) -> Tensor:
        """Entropy of the mixture in nats: what the draws leave open, and what they differ in."""
        classes = self._classes()
        if classes is not None:
            return torch.distributions.Categorical(probs=classes.mean(-2)).entropy()
        if self.event_shape:
            raise NotImplementedError("the entropy of a mixture over vectors has no closed form.")
        return self.mutual_information + self.component_distribution.entropy().mean(-1)

    @property
    def aleatoric(self) -> Tensor:
        """mean_s Var[y | w_s]; over classes that of each indicator."""
        inner = self.component_distribution
        if isinstance(inner, Categorical | OneHotCategorical):
            each = torch.distributions.Bernoulli(probs=inner.probs, validate_args=False).variance
            return each.mean(dim=-2)
        return inner.variance.mean(dim=len(self.batch_shape))

    @property
    def epistemic(self) -> Tensor:
        """Var_s E[y | w_s]; over classes that of each probability."""
        inner, axis = self.component_distribution, len(self.batch_shape)
        if isinstance(inner, Categorical | OneHotCategorical):
            return inner.probs.var(dim=axis, unbiased=False)
        if self.periodic:
            return self._average_event(self._between())
        return inner.mean.var(dim=axis, unbiased=False)

    @property
    def mutual_information(self) -> Tensor:
        """I(y; w) in nats: a sum over classes, else for each marginal by integration."""
        classes = self._classes()
        if classes is not None:  # mean_s KL(p_s || mean_s p_s)
            mean = classes.mean(-2, keepdim=True)
            each = torch.xlogy(classes, classes) - torch.xlogy(classes, mean)
            return each.sum(-1).mean(-1)
        components = self.marginal().component_distribution
        if getattr(components, "_discrete", False):
            pairs = _every_pair(components)

            def at_counts(k: Tensor) -> Tensor:  # [N, *batch, S]
                return _information(pairs._log_density(k.unsqueeze(-1)))

            return expected_over_counts(components, at_counts).mean(-1)
        mean = components.mean
        z = torch.linspace(-7.0, 7.0, 113, dtype=mean.dtype, device=mean.device)
        weights = torch.softmax(-0.5 * z.square(), dim=0)
        total = torch.zeros_like(mean[..., 0])
        for node, weight in zip(z, weights, strict=True):
            y = components.from_standard_normal(node)  # [*batch, S]: one point per component
            of_all = components.log_prob(y.movedim(-1, 0).unsqueeze(-1))  # [S, *batch, S]
            total = total + weight * _information(of_all).mean(0)
        return total


def _information(log_probs: Tensor) -> Tensor:
    """mean_s r_s log r_s with r_s = p_s / mean p, from log-densities whose last axis is s."""
    mean = log_sum_exp(log_probs, dim=-1) - math.log(log_probs.shape[-1])
    log_ratio = log_probs - mean.unsqueeze(-1)
    ratio = log_ratio.exp()
    return (ratio * torch.where(ratio > 0.0, log_ratio, 0.0)).mean(-1)


def _every_pair(components: Distribution) -> Any:
    """Components `[*batch, S]` as `[*batch, 1, S]`, to be taken at the points of all of them."""
    every = copy.copy(components)
    for name, value in vars(components).items():
        if isinstance(value, Tensor):
            setattr(every, name, value.unsqueeze(-2))
        elif isinstance(value, Distribution):
            setattr(every, name, _every_pair(value))
    return every
