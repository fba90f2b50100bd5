"""Features to distributions with heavier tails than the normal's: outliers cost less.

    loc = mean + std a,   scale = std (softplus(r) + floor),   df = 2 + softplus(s) + floor

Twin: `torch_ref/heads/heavy_tailed.py`. Source: Lange, Little & Taylor, "Robust statistical
modeling using the t distribution" (JASA 1989).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.distributions import Independent, Laplace, StudentT
from jaxprob.heads.links import in_units, positive, raw_outputs
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray

__all__ = ["LaplaceHead", "StudentTHead"]


class StudentTHead(nn.Module):
    """Location and scale by a dense layer; degrees of freedom fixed, or learned for each target.

    Attributes:
      features: Number of targets D.
      df: Degrees of freedom (> 0); None learns them above 2, so that the variance exists.
      target_mean: Mean of the targets (a number, or one for each).
      target_std: Standard deviation of the targets, likewise.
    """

    features: int = 1
    df: float | None = None
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`."""
        loc, raw = raw_outputs(h, self.features, 2)
        if self.df is None:
            raw_df = self.param("raw_df", nn.initializers.constant(2.0), (self.features,))
            df = jnp.broadcast_to(2.0 + positive(raw_df), loc.shape)
        else:
            require_positive("StudentTHead", df=self.df)
            df = jnp.full_like(loc, self.df)
        require_positive("StudentTHead", target_std=self.target_std)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        return Independent(StudentT(df, loc, unit * positive(raw)), 1)


class LaplaceHead(nn.Module):
    """Location (the median) and scale by a dense layer; with a fixed scale its loss is the MAE.

    Attributes:
      features: Number of targets D.
      target_mean: Centre of the targets (a number, or one for each).
      target_std: Spread of the targets, likewise.
    """

    features: int = 1
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`."""
        loc, raw = raw_outputs(h, self.features, 2)
        require_positive("LaplaceHead", target_std=self.target_std)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        return Independent(Laplace(loc, unit * positive(raw)), 1)
