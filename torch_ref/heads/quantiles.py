"""Features to quantiles that never cross.

Twin of `jaxprob/heads/quantiles.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Independent, InterpolatedQuantiles
from torch_ref.heads.links import in_units, positive

__all__ = ["QuantileHead"]


class QuantileHead(nn.Module):
    """Quantiles at fixed levels, rising by construction."""

    def __init__(
        self,
        in_features: int,
        levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
        features: int = 1,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.levels = torch.tensor(levels, dtype=torch.float64)
        self.target_mean, self.target_std = target_mean, target_std
        self.out = nn.Linear(in_features, features * len(levels))

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        raw = self.out(h).unflatten(-1, (-1, len(self.levels)))
        standard = torch.special.ndtri(self.levels)
        offsets = standard.diff().expm1().log().to(raw)
        rises = positive(raw[..., 1:] + offsets).cumsum(-1)
        rises = torch.cat([torch.zeros_like(rises[..., :1]), rises], -1)
        middle = len(self.levels) // 2
        anchor = raw[..., :1] + standard[middle].to(raw)
        values = anchor + rises - rises[..., middle, None]
        unit = in_units(self.target_std, raw).unsqueeze(-1)
        values = in_units(self.target_mean, raw).unsqueeze(-1) + unit * values
        return Independent(InterpolatedQuantiles(self.levels.to(raw), values), 1)
