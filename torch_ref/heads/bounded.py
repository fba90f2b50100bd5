"""Features to a beta distribution, by mean and total concentration.

Twin of `jaxprob/heads/bounded.py`.
"""

import torch
from torch import Tensor, nn

from torch_ref.distributions import Beta, Independent
from torch_ref.heads.links import SCALE_FLOOR, concentration

__all__ = ["BetaHead"]


class BetaHead(nn.Module):
    """Mean (logit link) and total concentration."""

    def __init__(self, in_features: int, features: int = 1):
        super().__init__()
        self.out = nn.Linear(in_features, 2 * features)

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        logit, raw = self.out(h).chunk(2, dim=-1)
        total = 2.0 * concentration(raw)
        ones = SCALE_FLOOR + total * torch.sigmoid(logit)
        zeros = SCALE_FLOOR + total * torch.sigmoid(-logit)
        return Independent(Beta(ones, zeros, validate_args=False), 1)
