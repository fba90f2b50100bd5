"""Features to a normal distribution over vectors, with covariances between the targets.

    loc = mean + std a,   scale_tril = diag(std) (L + diag(softplus(r) + floor)),  L strictly lower

Twin: `torch_ref/heads/multivariate_normal.py`. Source: Dorta et al., "Structured uncertainty
prediction networks" (CVPR 2018), section 3, for the full factor.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.distributions import MultivariateNormal
from jaxprob.distributions.validation import align
from jaxprob.heads.links import in_units, positive
from jaxprob.requirements import require_count, require_positive
from jaxprob.types import AnyArray

__all__ = ["MultivariateNormalHead"]


class MultivariateNormalHead(nn.Module):
    """Mean and lower triangular factor of the covariance by one dense layer.

    Attributes:
      features: Number of targets D; the layer has D (D + 3) / 2 outputs.
      target_mean: Mean of the targets (a number, or one for each).
      target_std: Standard deviation of the targets, likewise.
    """

    features: int
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> MultivariateNormal:
        """Maps features `[*B, H]` to a distribution over vectors `[*B, D]`."""
        size = self.features
        require_count("MultivariateNormalHead", features=size)
        out = nn.Dense(size * (size + 3) // 2, name="out")(h)
        loc, raw, below = jnp.split(out, (size, 2 * size), axis=-1)
        require_positive("MultivariateNormalHead", target_std=self.target_std)
        unit = jnp.broadcast_to(in_units(self.target_std, loc), loc.shape)
        factor = positive(raw)[..., None] * align(jnp.eye(size, dtype=out.dtype), raw.ndim + 1)
        factor = factor.at[(..., *np.tril_indices(size, -1))].set(below)
        loc = in_units(self.target_mean, loc) + unit * loc
        return MultivariateNormal(loc, unit[..., None] * factor)
