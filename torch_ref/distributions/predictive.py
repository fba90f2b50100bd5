"""The posterior predictive p(y | x, data) = (1 / S) sum_s p(y | x, w_s), draws leading.

Twin of `jaxprob/distributions/predictive.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.mixture import MixtureSameFamily, move_batch_axis

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

    @property
    def aleatoric(self) -> Tensor:
        """mean_s Var[y | w_s]."""
        return self.component_distribution.variance.mean(dim=len(self.batch_shape))

    @property
    def epistemic(self) -> Tensor:
        """Var_s E[y | w_s]."""
        return self.component_distribution.mean.var(dim=len(self.batch_shape), unbiased=False)

    @property
    def mutual_information(self) -> Tensor:
        """I(y; w) in nats for each marginal, by integration over each component."""
        components = self.marginal().component_distribution
        mean = components.mean
        z = torch.linspace(-7.0, 7.0, 113, dtype=mean.dtype, device=mean.device)
        weights = torch.softmax(-0.5 * z.square(), dim=0)
        total = torch.zeros_like(mean[..., 0])
        for node, weight in zip(z, weights, strict=True):
            y = components.from_standard_normal(node)  # [*batch, S]: one point per component
            inside = components.log_prob(y)
            of_all = components.log_prob(y.movedim(-1, 0).unsqueeze(-1))  # [S, *batch, S]
            mixed = log_sum_exp(of_all, dim=-1).movedim(0, -1) - math.log(self.num_draws)
            total = total + weight * (inside - mixed).mean(dim=-1)
        return total
