"""The posterior predictive p(y | x, data) = (1 / S) sum_s p(y | x, w_s), draws leading.

Twin of `jaxprob/distributions/predictive.py`.
"""

import math

import torch
from torch import Tensor

from torch_ref.distributions.base import Distribution, log_sum_exp
from torch_ref.distributions.quantiles import monotone_quantile

__all__ = ["Predictive"]


class Predictive(Distribution):
    """Equally weighted mixture over a leading axis of draws.

    Args:
      components: The prediction of each draw, batch shape `[S, *batch]`.
    """

    arg_constraints = {}  # pyright: ignore[reportAssignmentType]  # torch declares a property

    def __init__(self, components: Distribution):
        self.components = components
        super().__init__(components.batch_shape[1:], components.event_shape, validate_args=False)

    @property
    def num_draws(self) -> int:
        """Number of posterior draws S."""
        return self.components.batch_shape[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value) `[*batch]`."""
        return log_sum_exp(self.components.log_prob(value), dim=0) - math.log(self.num_draws)

    def marginal(self) -> "Predictive":
        """Returns the mixtures of the marginals of the components."""
        return self if not self.event_shape else Predictive(self.components.marginal())

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value) of scalar events."""
        return self.components.cdf(value).mean(dim=0)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value) of scalar events."""
        return self.components.survival_function(value).mean(dim=0)

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the components."""
        return self.components.float_dtype()

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns the quantile of each marginal, by bisection; in a gap, its middle."""
        if self.event_shape:
            return self.marginal().invert(lower, upper)
        shape = torch.broadcast_shapes(lower.shape, self.batch_shape)
        q, tail = lower.expand(shape), upper.expand(shape)
        # Draws lead, levels stand between them and the batch.
        levels = len(shape) - len(self.batch_shape)
        ends = self._spread(lambda c, x: c.invert(*x), (q, tail), levels)
        return monotone_quantile(
            q,
            lambda x: self._spread(lambda c, v: c.cdf(v), x, levels).mean(dim=0),
            lambda x: self._spread(lambda c, v: c.survival_function(v), x, levels).mean(dim=0),
            ends.amin(dim=0),
            ends.amax(dim=0),
            tail,
            gaps=True,
        )

    def _spread(self, function, values, levels: int) -> Tensor:
        """function(component, values) for every draw; the draws come out in front."""
        if levels == 0:
            return function(self.components, values)
        # Put the draws next to the batch for the components, and in front again afterwards.
        if isinstance(values, tuple):
            lifted = tuple(v.unsqueeze(levels) for v in values)
        else:
            lifted = values.unsqueeze(levels)
        return function(self.components, lifted).movedim(levels, 0)

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture `[*batch, *event]`."""
        return self.components.mean.mean(dim=0)

    @property
    def variance(self) -> Tensor:
        """Variance of the mixture `[*batch, *event]`."""
        return self.aleatoric + self.epistemic

    @property
    def aleatoric(self) -> Tensor:
        """mean_s Var[y | w_s]."""
        return self.components.variance.mean(dim=0)

    @property
    def epistemic(self) -> Tensor:
        """Var_s E[y | w_s]."""
        return self.components.mean.var(dim=0, unbiased=False)

    @property
    def mutual_information(self) -> Tensor:
        """I(y; w) in nats for each marginal, by integration over each component."""
        mixture = self.marginal()
        mean = mixture.components.mean
        z = torch.linspace(-7.0, 7.0, 113, dtype=mean.dtype, device=mean.device)
        weights = torch.softmax(-0.5 * z.square(), dim=0)
        total = torch.zeros_like(mean[0])
        for node, weight in zip(z, weights, strict=True):
            y = mean + mixture.components.stddev * node  # [S, *batch]: one point per component
            inside = log_sum_exp(mixture.components.log_prob(y.unsqueeze(1)), dim=1)
            gain = mixture.components.log_prob(y) - inside + math.log(self.num_draws)
            total = total + weight * gain.mean(dim=0)
        return total
