"""Mixtures over the circle: mean direction arg z, circular variance 1 - |z|, z = sum w R e^(i mu).

Twin of `jaxprob/distributions/circular.py`.
"""

import math

import torch
from torch import Tensor

__all__ = ["between_directions", "from_cut", "mean_direction", "nearest_turn"]


def nearest_turn(angle: Tensor, centre: Tensor) -> Tensor:
    """Returns `angle` plus the whole turns that bring it within pi of `centre`."""
    return angle + 2 * math.pi * ((centre - angle) / (2 * math.pi)).round()


def mean_direction(directions: Tensor, variances: Tensor, weights: Tensor, dim: int = -1) -> Tensor:
    """Returns the direction of sum_k w_k R_k e^(i mu_k), within (-pi, pi]."""
    z = torch.polar(weights * (1.0 - variances), directions).sum(dim)
    return z.angle()


def between_directions(directions: Tensor, variances: Tensor, mean: Tensor) -> Tensor:
    """Returns R_k (1 - cos(mu_k - mean)), the variance of each component's direction."""
    return (1.0 - variances) * 2.0 * (0.5 * (directions - mean)).sin().square()


def from_cut(components, value: Tensor, cut: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each component's probability of the arc from `cut` to `value`, and of the rest.

    Args:
      components: Distributions over the circle, batch `[..., K]`.
      value: Angles between cut and cut + 2 pi.
      cut: Where counting starts.
    """
    middle = components.mean
    low, high = nearest_turn(cut, middle), nearest_turn(value, middle)
    # an angle next to loc + pi may have come round to loc - pi, where its cdf is that of the turn
    at_low, at_high = components.cdf(low), components.cdf(high)
    beyond_low, beyond_high = components.survival_function(low), components.survival_function(high)
    turned = ((value - high) - (cut - low)) > math.pi
    inside = torch.where(turned, beyond_low + at_high, at_high - at_low)
    outside = torch.where(turned, at_low - at_high, at_low + beyond_high)
    return inside.clamp(0.0, 1.0), outside.clamp(0.0, 1.0)
