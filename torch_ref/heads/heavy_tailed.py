"""Features to Student's t and Laplace distributions.

Twin of `jaxprob/heads/heavy_tailed.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Independent, Laplace, StudentT
from torch_ref.heads.links import in_units, positive

__all__ = ["LaplaceHead", "StudentTHead"]


class LocationScale(nn.Module):
    """One linear layer to location and scale, in the units of the targets."""

    def __init__(
        self,
        in_features: int,
        features: int = 1,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        super().__init__()
        self.target_mean, self.target_std = target_mean, target_std
        self.out = nn.Linear(in_features, 2 * features)

    def loc_and_scale(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Returns both, `[*B, D]`."""
        loc, raw = self.out(h).chunk(2, dim=-1)
        unit = in_units(self.target_std, loc)
        return in_units(self.target_mean, loc) + unit * loc, unit * positive(raw)


class StudentTHead(LocationScale):
    """Student's t; `df` fixed, or None to learn it for each target."""

    def __init__(self, in_features: int, features: int = 1, df: float | None = None, **units):
        super().__init__(in_features, features, **units)
        self.df = df
        if df is None:
            self.raw_df = nn.Parameter(torch.full((features,), 2.0))

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        loc, scale = self.loc_and_scale(h)
        if self.df is None:
            df = (2.0 + positive(self.raw_df)).expand_as(loc)
        else:
            df = torch.full_like(loc, self.df)
        return Independent(StudentT(df, loc, scale, validate_args=False), 1)


class LaplaceHead(LocationScale):
    """Laplace: the median and the mean absolute deviation."""

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        return Independent(Laplace(*self.loc_and_scale(h), validate_args=False), 1)
