"""Features to a normal distribution over vectors.

Twin of `jaxprob/heads/multivariate_normal.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import MultivariateNormal
from torch_ref.heads.links import in_units, positive

__all__ = ["MultivariateNormalHead"]


class MultivariateNormalHead(nn.Module):
    """Mean and lower triangular factor of the covariance."""

    def __init__(
        self,
        in_features: int,
        features: int,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.features, self.target_mean, self.target_std = features, target_mean, target_std
        self.out = nn.Linear(in_features, features * (features + 3) // 2)

    def forward(self, h: Tensor) -> MultivariateNormal:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        size = self.features
        loc, raw, below = self.out(h).split((size, size, size * (size - 1) // 2), dim=-1)
        unit = in_units(self.target_std, loc).expand(size)
        factor = torch.diag_embed(positive(raw))
        row, column = torch.tril_indices(size, size, -1)
        factor[..., row, column] = below
        loc = in_units(self.target_mean, loc) + unit * loc
        return MultivariateNormal(loc, scale_tril=torch.diag(unit) @ factor)
