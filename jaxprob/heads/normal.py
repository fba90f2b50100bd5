"""Features to a normal distribution.

    (a, r) = h W + b,   loc = mean + std a,   scale = std (softplus(r) + floor)

Twin: `torch_ref/heads/normal.py`. Source: Nix & Weigend, "Estimating the mean and variance of the
target probability distribution" (1994).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.distributions import Independent, Normal
from jaxprob.heads.links import SCALE_FLOOR, in_units, positive, raw_outputs
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray

__all__ = ["SCALE_FLOOR", "NormalHead"]


class NormalHead(nn.Module):
    """One dense layer to mean and scale; returns `Independent(Normal)`, event shape `(D,)`.

    Attributes:
      features: Number of targets D.
      homoscedastic: True for one scale per target that does not depend on the input.
      target_mean: Mean of the targets (a number, or one for each), so that the network learns in
        standard units while the distribution is in the units of the data.
      target_std: Standard deviation of the targets, likewise (> 0).
    """

    features: int = 1
    homoscedastic: bool = False
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`."""
        if self.homoscedastic:
            (loc,) = raw_outputs(h, self.features, 1)
            raw = self.param("raw_scale", nn.initializers.zeros, (self.features,))
            raw = jnp.broadcast_to(raw, loc.shape)  # one scale for all rows
        else:
            loc, raw = raw_outputs(h, self.features, 2)
        require_positive("NormalHead", target_std=self.target_std)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        return Independent(Normal(loc, unit * positive(raw)), 1)
