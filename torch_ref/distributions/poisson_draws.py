"""Poisson draws by inversion and by Hoermann's transformed rejection, in float64.

Twin of `jaxprob/distributions/poisson_draws.py`.
"""

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.inversion import inverted_counts
from torch_ref.distributions.rejection import first_accepted

__all__ = ["poisson_draws"]


def poisson_draws(key: Tensor, rate: Tensor, shape: torch.Size) -> Tensor:
    """Returns counts as numbers of the type of `rate`."""
    small_key, large_key = random.split(key).unbind(-2)
    rate = rate.detach().expand(shape)
    rate = rate.masked_fill(rate < 0.0, torch.nan)
    few = rate < 10.0
    small = torch.where(few, rate, 0.0).double()

    def tail(j: Tensor) -> Tensor:  # P(X >= j) = P(Gamma(j) < rate)
        return torch.special.gammainc(j, small)

    inverted = inverted_counts(small_key, tail, shape, rate.dtype)
    rejected = first_accepted(_ptrs, large_key, torch.where(few, 10.0, rate))
    return torch.where(few, inverted, rejected)


def _ptrs(u: Tensor, v: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """A count, and whether it is accepted."""
    u, v = u.double() - 0.5, v.double()
    mean = rate.double()
    b = 0.931 + 2.53 * mean.sqrt()
    a = -0.059 + 0.02483 * b
    us = 0.5 - u.abs()
    k = ((2.0 * a / us + b) * u + mean + 0.43).floor()
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    accept_at_once = (us >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))
    reject_at_once = (k < 0.0) | ((us < 0.013) & (v > us))
    log_mass = k * mean.log() - mean - (k.clamp(min=0.0) + 1.0).lgamma()
    too_high = (v * inverse_alpha / (a / us.square() + b)).log() > log_mass
    return k.to(rate.dtype), ~(reject_at_once | (too_high & ~accept_at_once))
