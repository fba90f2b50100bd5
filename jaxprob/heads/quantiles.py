"""Features to quantiles that never cross.

    v_1 < ... < v_Q,   v_{i+1} - v_i = std (softplus(r_i) + floor),   v_middle = mean + std a

Twin: `torch_ref/heads/quantiles.py`. Source: Gasthaus et al., "Probabilistic forecasting with
spline quantile function RNNs" (AISTATS 2019), for quantiles that rise by construction.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.distributions import Independent, InterpolatedQuantiles
from jaxprob.distributions.validation import align
from jaxprob.heads.links import in_units, positive
from jaxprob.requirements import require_count, require_positive
from jaxprob.types import AnyArray

__all__ = ["QuantileHead"]


class QuantileHead(nn.Module):
    """Quantiles at fixed levels, in rising order whatever the weights.

    Train it by `objectives.pinball_loss`, which needs nothing but the quantiles, or by its
    likelihood as any other head.

    Attributes:
      levels: Probabilities in (0, 1), rising; at least two.
      features: Number of targets D.
      target_mean: Mean of the targets (a number, or one for each).
      target_std: Standard deviation of the targets, likewise.
    """

    levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
    features: int = 1
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`."""
        levels = check_levels(self.levels)
        count = len(levels)
        require_count("QuantileHead", features=self.features)
        raw = nn.Dense(self.features * count, name="out")(h)
        raw = raw.reshape(*h.shape[:-1], self.features, count)
        # a zero layer gives the quantiles of a standard normal
        points = [NormalDist().inv_cdf(level) for level in levels]
        gaps = np.log(np.expm1(np.diff(points)))
        steps = positive(raw[..., 1:] + align(jnp.asarray(gaps, raw.dtype), raw.ndim))
        rises = jnp.concatenate([jnp.zeros_like(raw[..., :1]), jnp.cumsum(steps, -1)], -1)
        middle = count // 2
        start = raw[..., :1] + points[middle] - rises[..., middle : middle + 1]
        require_positive("QuantileHead", target_std=self.target_std)
        unit = in_units(self.target_std, raw[..., 0])[..., None]
        values = in_units(self.target_mean, raw[..., 0])[..., None] + unit * (start + rises)
        return Independent(InterpolatedQuantiles(jnp.asarray(levels, values.dtype), values), 1)


def check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Returns the levels, or raises a ValueError that says what is wrong with them."""
    if np.ndim(levels) != 1:
        raise ValueError(
            f"QuantileHead: levels must be at least two rising probabilities in (0, 1); got "
            f"{levels!r}. Write (0.1, 0.5, 0.9)."
        )
    levels = tuple(float(level) for level in levels)
    rising = all(a < b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not rising or not all(math.isfinite(q) and 0 < q < 1 for q in levels):
        raise ValueError(
            f"QuantileHead: levels must be at least two rising probabilities in (0, 1); got "
            f"{levels}. Write (0.1, 0.5, 0.9)."
        )
    return levels
