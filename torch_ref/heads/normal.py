"""Features to a normal distribution: loc = mean + std a, scale = std (softplus(r) + floor).

Twin of `jaxprob/heads/normal.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Independent, Normal
from torch_ref.heads.links import SCALE_FLOOR, in_units, positive, softplus

__all__ = ["SCALE_FLOOR", "NormalHead", "softplus"]


class NormalHead(nn.Module):
    """One linear layer to mean and scale of independent normals.

    Args:
      in_features: Size of the features H.
      features: Number of targets D.
      homoscedastic: One scale per target that does not depend on the input.
      target_mean: Mean of the targets.
      target_std: Standard deviation of the targets.
    """

    def __init__(
        self,
        in_features: int,
        features: int = 1,
        homoscedastic: bool = False,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.target_mean, self.target_std = target_mean, target_std
        self.out = nn.Linear(in_features, features if homoscedastic else 2 * features)
        if homoscedastic:
            self.raw_scale = nn.Parameter(torch.zeros(features))
        self.homoscedastic = homoscedastic

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        out = self.out(h)
        loc, raw = (out, self.raw_scale) if self.homoscedastic else out.chunk(2, dim=-1)
        scale = in_units(self.target_std, loc) * positive(raw)
        loc = in_units(self.target_mean, loc) + in_units(self.target_std, loc) * loc
        return Independent(Normal(loc, scale.expand_as(loc), validate_args=False), 1)
