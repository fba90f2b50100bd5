"""What our distributions have beyond torch.distributions: quantiles, intervals, tail probabilities.

Twin of `jaxprob/distributions/base.py`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Distribution", "log_sum_exp", "ndtr"]


class Distribution(torch.distributions.Distribution):
    """Mix-in for torch.distributions classes; quantities are those of the marginals."""

    def marginal(self) -> "Distribution":
        """Returns the marginals: scalar events, batch shape `batch_shape + event_shape`."""
        if len(self.event_shape) == 0:
            return self
        raise NotImplementedError(f"{type(self).__name__} has no closed-form marginals.")

    def invert(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Returns x with P(X <= x) = lower and P(X > x) = upper = 1 - lower."""
        if len(self.event_shape) == 0:
            raise NotImplementedError(f"{type(self).__name__} has no quantile function.")
        return self.marginal().invert(lower, upper)

    def float_dtype(self) -> torch.dtype:
        """The float dtype of the parameters."""
        for name in self.arg_constraints:
            value = getattr(self, name, None)
            if isinstance(value, Tensor) and value.is_floating_point():
                return value.dtype
        return torch.get_default_dtype()

    def quantile(self, q: Tensor | float) -> Tensor:
        """Returns the value that a draw stays at or below with probability `q`."""
        q = torch.as_tensor(q, dtype=self.float_dtype())
        return self.invert(q, 1.0 - q)

    def icdf(self, value: Tensor) -> Tensor:
        """Returns the quantile."""
        return self.quantile(value)

    def inverse_survival_function(self, tail: Tensor | float) -> Tensor:
        """Returns the value that a draw exceeds with probability `tail`."""
        tail = torch.as_tensor(tail, dtype=self.float_dtype())
        lower = 1.0 - tail
        if getattr(self.marginal(), "_discrete", False):
            # a rounded cdf must not count as having reached it
            lower = torch.where(lower > 0.5, lower + 2.0 * torch.finfo(lower.dtype).eps, lower)
        return self.invert(lower, tail)

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """Returns the ends of the central interval that holds a draw with probability `level`."""
        tail = 0.5 * (1.0 - level)
        return self.quantile(tail), self.inverse_survival_function(tail)

    def survival_function(self, value: Tensor) -> Tensor:
        """Returns P(X > value)."""
        return 1.0 - self.cdf(value)

    def log_cdf(self, value: Tensor) -> Tensor:
        """Returns log P(X <= value), accurate in both tails."""
        lower, upper = self.cdf(value), self.survival_function(value)
        small = lower < 0.5
        near = torch.log1p(-torch.where(small, 0.0, upper))
        return torch.where(small, torch.where(small, lower, 1.0).log(), near)

    def log_survival_function(self, value: Tensor) -> Tensor:
        """Returns log P(X > value), accurate in both tails."""
        lower, upper = self.cdf(value), self.survival_function(value)
        small = upper < 0.5
        near = torch.log1p(-torch.where(small, 0.0, lower))
        return torch.where(small, torch.where(small, upper, 1.0).log(), near)

    def prob_above(self, threshold: Tensor | float) -> Tensor:
        """Returns P(X > threshold) of each marginal."""
        return self.marginal().survival_function(torch.as_tensor(threshold))

    def from_standard_normal(self, z: Tensor) -> Tensor:
        """Returns the values with the same cdf as `z` has under N(0, 1)."""
        return self.invert(ndtr(z), ndtr(-z))

    def median(self) -> Tensor:
        """Returns the median of each marginal."""
        return self.quantile(0.5)

    periodic = False  # over a circle

    def draw(self, key: Tensor, sample_shape: Sequence[int] = ()) -> Tensor:
        """Returns the draws that `jaxprob` makes of the same key.

        They carry a pathwise gradient where there is one.

        Args:
          key: A key of `torch_ref.random`.
          sample_shape: Shape in front of batch and event.
        """
        return self._draw(key, self._extended_shape(torch.Size(sample_shape)))

    def _draw(self, key: Tensor, shape: torch.Size) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no draws from a key.")

    def kl_divergence(self, other: torch.distributions.Distribution) -> Tensor:
        """Returns KL(self || other)."""
        return torch.distributions.kl_divergence(self, other)


def ndtr(z: Tensor) -> Tensor:
    """Returns Phi(z) through erfc; torch.special.ndtr takes 1 + erf and loses the lower tail."""
    return 0.5 * torch.erfc(-z / math.sqrt(2))


def log_sum_exp(values: Tensor, dim: int) -> Tensor:
    """Returns log sum exp over one axis, with a gradient that is the softmax.

    torch.logsumexp recomputes the weights from its rounded result in the backward pass and loses
    digits when the values are large; subtracting a constant maximum first keeps them.
    """
    peak = values.detach().amax(dim=dim, keepdim=True)
    peak = torch.where(torch.isfinite(peak), peak, torch.zeros_like(peak))
    return (values - peak).exp().sum(dim=dim).log() + peak.squeeze(dim)
