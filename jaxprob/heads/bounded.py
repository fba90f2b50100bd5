"""Features to a beta distribution: proportions in (0, 1).

    m = sigmoid(a),  s = 2 e^r,  concentration1 = m s,  concentration0 = (1 - m) s

Twin: `torch_ref/heads/bounded.py`. Source: Ferrari & Cribari-Neto, "Beta regression for modelling
rates and proportions" (2004).
"""

import flax.linen as nn
import jax
from jaxtyping import Float

from jaxprob.distributions import Beta, Independent
from jaxprob.heads.links import SCALE_FLOOR, concentration, raw_outputs
from jaxprob.types import AnyArray

__all__ = ["BetaHead"]


class BetaHead(nn.Module):
    """Mean (logit link) and total concentration by a dense layer.

    Targets of exactly 0 or 1 have no finite density; squeeze them first, (y (n - 1) + 1/2) / n.

    Attributes:
      features: Number of targets D.
    """

    features: int = 1

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]` in (0, 1)."""
        logit, raw = raw_outputs(h, self.features, 2)
        total = 2.0 * concentration(raw)  # a zero layer is the uniform distribution
        ones, zeros = total * jax.nn.sigmoid(logit), total * jax.nn.sigmoid(-logit)
        return Independent(Beta(ones + SCALE_FLOOR, zeros + SCALE_FLOOR), 1)
