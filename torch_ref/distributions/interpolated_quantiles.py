"""Piecewise uniform between given quantiles, exponential tails beyond them.

Twin of `jaxprob/distributions/interpolated_quantiles.py`.
"""

import torch
from torch import Tensor
from torch.distributions import constraints

from torch_ref.distributions.base import Distribution

__all__ = ["InterpolatedQuantiles"]


class InterpolatedQuantiles(Distribution):
    """A distribution given by Q of its quantiles.

    Args:
      levels: Probabilities `[..., Q]`, rising.
      values: Quantiles `[*batch, Q]`, rising.
    """

    arg_constraints = {"levels": constraints.unit_interval, "values": constraints.real}
    support = constraints.real
    has_rsample = True

    def __init__(self, levels: Tensor, values: Tensor):
        self.levels, self.values = torch.broadcast_tensors(levels.to(values), values)
        self.heights = self.levels.diff(dim=-1) / self.values.diff(dim=-1)
        # each tail continues the density of its neighbour
        self.decay_below = self.heights[..., 0] / self.levels[..., 0]
        self.decay_above = self.heights[..., -1] / (1.0 - self.levels[..., -1])
        super().__init__(values.shape[:-1], validate_args=False)

    def _bin(self, edges: Tensor, x: Tensor) -> Tensor:
        """Number of edges at or below x: 0 is the lower tail, Q the upper."""
        return (x.unsqueeze(-1) >= edges).sum(-1)

    @staticmethod
    def _pick(table: Tensor, index: Tensor) -> Tensor:
        table = table.expand(*index.shape, table.shape[-1])
        return table.gather(-1, index.clamp(0, table.shape[-1] - 1).unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value)."""
        value = torch.broadcast_tensors(value, self.values[..., 0])[0]
        index = self._bin(self.values, value)
        height = self._pick(self.heights, index - 1).log()
        under = (self.values[..., 0] - value).clamp(min=0.0) * self.decay_below
        over = (value - self.values[..., -1]).clamp(min=0.0) * self.decay_above
        return height - under - over

    def cdf(self, value: Tensor) -> Tensor:
        """Returns P(X <= value)."""
        value = torch.broadcast_tensors(value, self.values[..., 0])[0]
        index = self._bin(self.values, value)
        inside = self._pick(self.levels, index - 1) + self._pick(self.heights, index - 1) * (
            value - self._pick(self.values, index - 1)
        )
        distance = (self.values[..., 0] - value).clamp(min=0.0)
        tail = self.levels[..., 0] * torch.exp(-distance * self.decay_below)
        result = torch.where(index == 0, tail, inside)
        return torch.where(
            index == self.values.shape[-1], 1.0 - self.survival_function(value), result
        )

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        value = torch.broadcast_tensors(value, self.values[..., 0])[0]
        index = self._bin(self.values, value)
        distance = (value - self.values[..., -1]).clamp(min=0.0)
        tail = (1.0 - self.levels[..., -1]) * torch.exp(-distance * self.decay_above)
        right = self._pick(self.values, index) - value
        inside = 1.0 - self._pick(self.levels, index) + self._pick(self.heights, index - 1) * right
        below = 1.0 - self.levels[..., 0] * torch.exp(
            -(self.values[..., 0] - value).clamp(min=0.0) * self.decay_below
        )
        inside = torch.where(index == 0, below, inside)
        return torch.where(index == self.values.shape[-1], tail, inside)

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns x with P(X <= x) = lower and P(X > x) = upper."""
        lower, upper, _ = torch.broadcast_tensors(lower, upper, self.values[..., 0])
        index = self._bin(self.levels, lower)
        left = self._pick(self.values, index - 1)
        rise = lower - self._pick(self.levels, index - 1)
        inside = left + rise / self._pick(self.heights, index - 1)
        first, last = self.levels[..., 0], 1.0 - self.levels[..., -1]
        is_low, is_high = index == 0, index == self.values.shape[-1]
        down = torch.where(is_low, lower, first).log() - first.log()
        up = last.log() - torch.where(is_high, upper, last).log()
        low = self.values[..., 0] + down / self.decay_below
        high = self.values[..., -1] + up / self.decay_above
        return torch.where(is_low, low, torch.where(is_high, high, inside))

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Returns draws Q(u), u uniform."""
        u = torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=self.values.dtype)
        return self.invert(u, 1.0 - u)

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Share, mean and variance of each part: lower tail, the bins, upper tail."""
        first, last = self.levels[..., :1], 1.0 - self.levels[..., -1:]
        share = torch.cat([first, self.levels.diff(dim=-1), last], -1)
        below, above = 1.0 / self.decay_below[..., None], 1.0 / self.decay_above[..., None]
        centre = (self.values[..., 1:] + self.values[..., :-1]) / 2
        mean = torch.cat([self.values[..., :1] - below, centre, self.values[..., -1:] + above], -1)
        widths = self.values.diff(dim=-1)
        variance = torch.cat([below.square(), widths.square() / 12, above.square()], -1)
        return share, mean, variance

    @property
    def mean(self) -> Tensor:
        """The mean."""
        share, mean, _ = self._parts
        return (share * mean).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The variance: within the parts and between them."""
        share, mean, variance = self._parts
        return (share * (variance + (mean - self.mean[..., None]).square())).sum(-1)

    def entropy(self) -> Tensor:
        """Returns the entropy in nats; a tail has one nat more than its height says."""
        share, _, _ = self._parts
        logs = self.heights.log()
        logs = torch.cat([logs[..., :1] - 1.0, logs, logs[..., -1:] - 1.0], -1)
        return -(share * logs).sum(-1)
