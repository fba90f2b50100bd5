"""Features to Poisson and negative binomial distributions, with exposure and extra zeros.

Twin of `jaxprob/heads/counts.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Independent, NegativeBinomial, Poisson, ZeroInflated
from torch_ref.heads.links import concentration, in_units, rate

__all__ = ["NegativeBinomialHead", "PoissonHead"]


class CountHead(nn.Module):
    """A linear layer whose first part is the logarithm of the mean."""

    parts = 1

    def __init__(
        self,
        in_features: int,
        features: int = 1,
        zero_inflated: bool = False,
        target_mean: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.zero_inflated, self.target_mean = zero_inflated, target_mean
        self.out = nn.Linear(in_features, (self.parts + zero_inflated) * features)

    def base(self, mean: Tensor, *raw: Tensor) -> torch.distributions.Distribution:
        """Returns the distribution without extra zeros."""
        raise NotImplementedError

    def forward(self, h: Tensor, exposure: Tensor | None = None) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`; the mean is proportional to exposure."""
        log_mean, *raw = self.out(h).chunk(self.parts + self.zero_inflated, dim=-1)
        mean = in_units(self.target_mean, log_mean) * rate(log_mean)
        mean = mean if exposure is None else mean * exposure
        counts = self.base(mean, *raw[: self.parts - 1])
        return Independent(ZeroInflated(counts, raw[-1]) if self.zero_inflated else counts, 1)


class PoissonHead(CountHead):
    """Poisson counts."""

    def base(self, mean: Tensor, *raw: Tensor) -> Poisson:
        """Returns the Poisson distribution of that mean."""
        return Poisson(mean, validate_args=False)


class NegativeBinomialHead(CountHead):
    """Counts with variance mean + mean^2 / total_count."""

    parts = 2

    def base(self, mean: Tensor, *raw: Tensor) -> NegativeBinomial:
        """Returns the negative binomial of that mean."""
        total_count = concentration(raw[0])
        logits = mean.log() - total_count.log()
        return NegativeBinomial(total_count, logits=logits)
