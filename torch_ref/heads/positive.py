"""Features to log-normal and gamma distributions.

Twin of `jaxprob/heads/positive.py`.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from torch_ref.distributions import Gamma, Independent, LogNormal
from torch_ref.heads.heavy_tailed import LocationScale
from torch_ref.heads.links import concentration, in_units, rate

__all__ = ["GammaHead", "LogNormalHead"]


class LogNormalHead(LocationScale):
    """Mean and scale of log y; `target_mean` and `target_std` are those of log y."""

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        return Independent(LogNormal(*self.loc_and_scale(h), validate_args=False), 1)


class GammaHead(nn.Module):
    """Mean (log link) and concentration."""

    def __init__(
        self, in_features: int, features: int = 1, target_mean: float | Sequence[float] = 1.0
    ):
        super().__init__()
        self.target_mean = target_mean
        self.out = nn.Linear(in_features, 2 * features)

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        log_mean, raw = self.out(h).chunk(2, dim=-1)
        mean = in_units(self.target_mean, raw) * rate(log_mean)
        shape = concentration(raw)
        return Independent(Gamma(shape, shape / mean, validate_args=False), 1)
