"""Features to distributions over positive numbers.

    LogNormal: log y ~ N(mean + std a, std (softplus(r) + floor))
    Gamma:     E[y] = unit e^a,  concentration = e^r,  rate = concentration / E[y]

Twin: `torch_ref/heads/positive.py`. Source: McCullagh & Nelder, "Generalized Linear Models", 2nd
ed., ch. 8 (gamma with log link).
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Float

from jaxprob.distributions import Gamma, Independent, LogNormal
from jaxprob.heads.links import concentration, in_units, positive, rate, raw_outputs
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray

__all__ = ["GammaHead", "LogNormalHead"]


class LogNormalHead(nn.Module):
    """Mean and scale of log y by a dense layer.

    Attributes:
      features: Number of targets D.
      target_mean: Mean of log y (a number, or one for each target).
      target_std: Standard deviation of log y, likewise.
    """

    features: int = 1
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`, all > 0."""
        loc, raw = raw_outputs(h, self.features, 2)
        require_positive("LogNormalHead", target_std=self.target_std)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        return Independent(LogNormal(loc, unit * positive(raw)), 1)


class GammaHead(nn.Module):
    """Mean (log link) and concentration by a dense layer; the variance is mean^2 / concentration.

    Attributes:
      features: Number of targets D.
      target_mean: Mean of the targets (> 0; a number, or one for each): the unit of the mean.
    """

    features: int = 1
    target_mean: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`, all > 0."""
        log_mean, raw = raw_outputs(h, self.features, 2)
        shape = concentration(raw)
        require_positive("GammaHead", target_mean=self.target_mean)
        mean = in_units(self.target_mean, raw) * rate(log_mean)
        return Independent(Gamma(shape, shape / mean), 1)
