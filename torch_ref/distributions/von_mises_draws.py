"""Von Mises draws by Best and Fisher's rejection, in their own formulas and in float64.

Twin of `jaxprob/distributions/von_mises_draws.py`.
"""

import math

import numpy as np
import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.bessel import resultant
from torch_ref.distributions.rejection import first_accepted

__all__ = ["von_mises_draws"]

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(64))


def von_mises_draws(key: Tensor, k: Tensor, shape: torch.Size) -> Tensor:
    """Returns angles around 0; their gradient towards k is -dF / dk over the density."""
    draw_key, sign_key = random.split(key).unbind(-2)
    fixed = k.detach().expand(shape)
    angle = first_accepted(_best_fisher, draw_key, fixed.masked_fill(fixed < 0.0, torch.nan))
    positive = random.uniform(sign_key, shape, k.dtype) < 0.5
    angle = torch.where(positive, angle, -angle)
    if not k.requires_grad:
        return angle
    return angle + _slope(fixed, angle) * (k - k.detach())


def _best_fisher(u: Tensor, level: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """A proposal for the absolute value of the angle, and whether it is accepted."""
    wide = k.double()
    root = (1.0 + 4.0 * wide.square()).sqrt()
    # tau - sqrt(2 tau) over 2 k, with tau = 1 + root, in a form that holds at k = 0
    outer = (1.0 + root).sqrt()
    rho = 2.0 * wide * outer / ((outer + math.sqrt(2.0)) * (1.0 + root))
    k_over_two_rho = (outer + math.sqrt(2.0)) * (1.0 + root) / (4.0 * outer)
    z = (math.pi * u.double()).cos()
    f = (2.0 * rho + (1.0 + rho.square()) * z) / (1.0 + rho.square() + 2.0 * rho * z)
    c = k_over_two_rho * (1.0 + rho.square()) - wide * f
    # A comparison with NaN is false, so that what is no number is not drawn again for ever.
    # The arc cosine of f would lose digits near 0.
    angle = 2.0 * ((1.0 - rho) / (1.0 + rho) * (math.pi / 2 * u.double()).tan()).atan()
    return angle.to(k.dtype), ~((c / level.double()).log() + 1.0 - c < 0.0)


def _slope(k: Tensor, angle: Tensor) -> Tensor:
    """-dF / dk over the density, by quadrature from the angle to 0 or to the end of its tail."""
    wide, theta = k.double()[..., None], angle.double().abs()[..., None]
    mean = resultant(wide)
    end = theta.cos() - 40.0 / wide.clamp(min=1e-3)
    end = end.clamp(min=-1.0).acos()
    to = torch.where((wide * (1.0 - theta.cos()) > 1.0) | (theta > math.pi / 2), end, 0.0)
    half = (to - theta) / 2
    t = theta + half * (1.0 + NODES)
    ratio = (wide * (t.cos() - theta.cos())).exp()
    integral = half[..., 0] * (WEIGHTS * (t.cos() - mean) * ratio).sum(-1)
    return (angle.sign() * integral).to(k.dtype)
