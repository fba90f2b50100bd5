"""Gamma draws by rejection.

Twin of `jaxprob/distributions/gamma_draws.py`. The gradient towards the concentration is that of
the distribution function over the density, from `tails.py`: no code or formula is shared with the
quadrature there.
"""

import math

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.rejection import first_accepted
from torch_ref.distributions.special import gamma_log_density
from torch_ref.distributions.tails import gamma_tails

__all__ = ["gamma_draws", "log_gamma_draws"]


def gamma_draws(key: Tensor, a: Tensor, shape: torch.Size) -> Tensor:
    """Returns draws of rate 1; their gradient towards a is -dF / da over the density."""
    fixed = a.detach().expand(shape)
    above_one, exponent = _draw(key, fixed)
    boost = torch.where(fixed < 1.0, (-exponent / fixed).exp(), 1.0)
    return _with_slope(above_one * boost, a)


def log_gamma_draws(key: Tensor, a: Tensor, shape: torch.Size) -> Tensor:
    """Returns the logarithms of draws of rate 1, which do not underflow for small a."""
    fixed = a.detach().expand(shape)
    above_one, exponent = _draw(key, fixed)
    logs = above_one.log() - torch.where(fixed < 1.0, exponent / fixed, 0.0)
    if not a.requires_grad:
        return logs
    # Where nothing is left of the draw F = z^a / Gamma(a + 1), so log z = (.. + log Gamma) / a.
    lost = logs < -80.0
    gradient = (torch.digamma(fixed + 1.0) - logs) / fixed
    near = torch.where(lost, 0.0, logs).exp()
    inner = logs + (_with_slope(near, a) - near) / near
    return torch.where(lost, logs + gradient * (a - a.detach()), inner)


def _with_slope(draws: Tensor, a: Tensor) -> Tensor:
    """The draws, with their gradient towards a (Figurnov et al., 2018)."""
    if not a.requires_grad:
        return draws
    lower, upper = gamma_tails(a, draws)
    probability = torch.where(lower < 0.5, lower, -upper)
    density = gamma_log_density(draws, a.detach(), torch.ones_like(draws)).exp()
    return draws + (probability.detach() - probability) / density


def _draw(key: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Draws from Gamma(a, 1), or Gamma(a + 1, 1) where a < 1, and the exponents for the rest."""
    draw_key, boost_key = random.split(key).unbind(-2)
    alpha = torch.where(a < 1.0, a + 1.0, a).masked_fill(a < 0.0, torch.nan)
    exponent = random.exponential(boost_key, a.shape, a.dtype)
    return first_accepted(_marsaglia_tsang, draw_key, alpha), exponent


def _marsaglia_tsang(u: Tensor, level: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A proposal for Gamma(alpha, 1) with alpha of at least 1, and whether it is accepted."""
    x = math.sqrt(2.0) * random.special.erf_inv(2.0 * u - 1.0)
    d = alpha - 1.0 / 3.0
    proposal = d * (1.0 + x * (d.rsqrt() / 3.0)) ** 3
    # In float64, where a large d does not matter. Comparisons with NaN are false, so that what is
    # no number is not drawn again for ever.
    x, level, d = x.double(), level.double(), d.double()
    v = (1.0 + x * (d.rsqrt() / 3.0)) ** 3
    return proposal, ~((v <= 0.0) | (level.log() >= 0.5 * x * x + d * (1.0 - v + v.log())))
