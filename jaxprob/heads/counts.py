"""Features to distributions over counts, with exposure and extra zeros.

    E[y] = exposure x unit x e^a
    negative binomial: variance = mean + mean^2 / total_count,  total_count = e^r

Twin: `torch_ref/heads/counts.py`. Source: Cameron & Trivedi, "Regression Analysis of Count Data",
2nd ed., ch. 3 (NB2) and 4.8 (zero inflation).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Num

from jaxprob.distributions import Distribution, Independent, NegativeBinomial, Poisson, ZeroInflated
from jaxprob.heads.links import concentration, in_units, rate, raw_outputs
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray, Array

__all__ = ["NegativeBinomialHead", "PoissonHead"]


class PoissonHead(nn.Module):
    """Rate by a dense layer with log link.

    Attributes:
      features: Number of targets D.
      zero_inflated: True for a learned share of extra zeros that depends on the input.
      target_mean: Mean count (> 0; a number, or one for each target) for an exposure of 1: the
        unit of the rate, so that training starts near it.
    """

    features: int = 1
    zero_inflated: bool = False
    target_mean: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(
        self, h: Float[AnyArray, "*B H"], exposure: Num[AnyArray, "..."] | None = None
    ) -> Independent:
        """Maps features `[*B, H]` to a distribution over counts `[*B, D]`.

        `exposure` (> 0) is how long or how much was observed: the mean is proportional to it (the
        offset log exposure of generalised linear models).
        """
        log_rate, *zeros = raw_outputs(h, self.features, 1 + self.zero_inflated)
        base = Poisson(_mean(log_rate, self.target_mean, exposure))
        return Independent(_inflated(base, zeros), 1)


class NegativeBinomialHead(nn.Module):
    """Mean (log link) and total count by a dense layer: counts that vary more than Poisson's.

    Attributes:
      features: Number of targets D.
      zero_inflated: True for a learned share of extra zeros that depends on the input.
      target_mean: Mean count (> 0; a number, or one for each target) for an exposure of 1.
    """

    features: int = 1
    zero_inflated: bool = False
    target_mean: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(
        self, h: Float[AnyArray, "*B H"], exposure: Num[AnyArray, "..."] | None = None
    ) -> Independent:
        """Maps features `[*B, H]` to a distribution over counts `[*B, D]`; see `PoissonHead`."""
        log_mean, raw, *zeros = raw_outputs(h, self.features, 2 + self.zero_inflated)
        total_count = concentration(raw)
        mean = _mean(log_mean, self.target_mean, exposure)
        base = NegativeBinomial(total_count, logits=jnp.log(mean) - jnp.log(total_count))
        return Independent(_inflated(base, zeros), 1)


def _mean(log_rate: Array, unit: float | Sequence[float], exposure: AnyArray | None) -> Array:
    require_positive("head of counts", target_mean=unit)
    mean = in_units(unit, log_rate) * rate(log_rate)
    if exposure is None:
        return mean
    exposure = jnp.asarray(exposure)
    if exposure.shape != mean.shape:
        raise ValueError(
            f"exposure has shape {exposure.shape}; expected one for each count, {mean.shape}."
        )
    return mean * exposure.astype(mean.dtype)


def _inflated(base: Distribution, zeros: list[Array]) -> Distribution:
    return ZeroInflated(base, zeros[0]) if zeros else base
