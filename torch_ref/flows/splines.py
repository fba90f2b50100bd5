"""Monotone rational-quadratic splines, bin by bin as published.

Twin of `jaxprob/flows/splines.py`. Source: Durkan et al., "Neural spline flows" (2019), eqs. 4-8.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from torch_ref.heads.links import softplus

__all__ = ["MIN_SHARE", "MIN_SLOPE", "Knots", "knots", "num_parameters", "rational_quadratic"]

MIN_SHARE = 1e-3
MIN_SLOPE = 1e-3


class Knots(NamedTuple):
    """Positions, values and slopes of the knots, each `[..., K + 1]`."""

    x: Tensor
    y: Tensor
    slope: Tensor


def num_parameters(bins: int) -> int:
    """Returns the numbers that make a spline: K widths, K heights, K - 1 slopes."""
    return bins + bins + bins - 1


def knots(raw: Tensor, bound: float) -> Knots:
    """Makes knots of unbounded numbers `[..., 3K - 1]`."""
    bins = (raw.shape[-1] + 1) // 3
    widths, heights, slopes = raw.split((bins, bins, bins - 1), dim=-1)

    def edges(logits: Tensor) -> Tensor:
        share = torch.softmax(logits, -1) * (1 - MIN_SHARE * bins) + MIN_SHARE
        rising = -bound + 2 * bound * share.cumsum(-1)[..., :-1]
        return F.pad(F.pad(rising, (1, 0), value=-bound), (0, 1), value=bound)

    # softplus(one) is the slope 1 less its floor
    one = math.log(math.exp(1 - MIN_SLOPE) - 1)
    return Knots(
        edges(widths), edges(heights), F.pad(softplus(slopes + one) + MIN_SLOPE, (1, 1), value=1.0)
    )


def rational_quadratic(
    value: Tensor, raw: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Applies the spline of each element, or its inverse; returns also the log-slope."""
    inside = (value > -bound) & (value < bound)
    spline = knots(raw, bound)
    value_inside = value.where(inside, torch.zeros_like(value))
    edges = spline.y if inverse else spline.x
    k = torch.searchsorted(edges[..., 1:-1].detach().contiguous(), value_inside[..., None],
                           right=True)  # fmt: skip
    x_k, y_k, d_k = (a.gather(-1, k).squeeze(-1) for a in spline)
    x_next, y_next, d_next = (a.gather(-1, k + 1).squeeze(-1) for a in spline)
    width, height = x_next - x_k, y_next - y_k
    s = height / width
    curve = d_next + d_k - 2 * s
    if inverse:
        rise = value_inside - y_k
        a = height * (s - d_k) + rise * curve
        b = height * d_k - rise * curve
        c = -s * rise
        xi = 2 * c / (-b - (b**2 - 4 * a * c).sqrt())
        out = xi * width + x_k
    else:
        xi = (value_inside - x_k) / width
        out = y_k + height * (s * xi**2 + d_k * xi * (1 - xi)) / (s + curve * xi * (1 - xi))
    slope = s**2 * (d_next * xi**2 + 2 * s * xi * (1 - xi) + d_k * (1 - xi) ** 2)
    log_slope = slope.log() - 2 * (s + curve * xi * (1 - xi)).log()
    if inverse:
        log_slope = -log_slope
    return out.where(inside, value), log_slope.where(inside, torch.zeros_like(value))
