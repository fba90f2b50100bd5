"""The four energies over the plane of Rezende & Mohamed (2015), table 1, and their normalisers.

Twin of `jaxprob/flows/energies.py`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["confined", "log_normalizer", "u1", "u2", "u3", "u4"]

Energy = Callable[[Tensor], Tensor]


def half_square(x: Tensor, width: float) -> Tensor:
    """Returns (x / width)^2 / 2."""
    return (x / width).square() / 2


def u1(x: Tensor) -> Tensor:
    """Two bumps on a ring."""
    left, right = (half_square(x[..., 0] + shift, 0.6) for shift in (2.0, -2.0))
    return half_square(torch.linalg.vector_norm(x, dim=-1) - 2, 0.4) - torch.logaddexp(
        -left, -right
    )


def u2(x: Tensor) -> Tensor:
    """A band along a sine."""
    return half_square(x[..., 1] - torch.sin(2 * math.pi * x[..., 0] / 4), 0.4)


def u3(x: Tensor) -> Tensor:
    """The band, which parts and joins again."""
    off = x[..., 1] - torch.sin(2 * math.pi * x[..., 0] / 4)
    w2 = 3 * torch.exp(-half_square(x[..., 0] - 1, 0.6))
    return -torch.logaddexp(-half_square(off, 0.35), -half_square(off + w2, 0.35))


def u4(x: Tensor) -> Tensor:
    """The band, which parts for good."""
    off = x[..., 1] - torch.sin(2 * math.pi * x[..., 0] / 4)
    w3 = 3 * torch.sigmoid((x[..., 0] - 1) / 0.3)
    return -torch.logaddexp(-half_square(off, 0.4), -half_square(off + w3, 0.35))


def confined(energy: Energy, half_width: float = 4.0, softness: float = 0.2) -> Energy:
    """Returns -U(x) between walls, which are normal tails."""

    def log_density(x: Tensor) -> Tensor:
        wall = half_square((x.abs() - half_width).clamp_min(0), softness).sum(-1)
        return -(energy(x) + wall)

    return log_density


def log_normalizer(log_density: Energy, half_width: float = 6.0, points: int = 1000) -> Tensor:
    """Returns log Z by the midpoint rule on a square."""
    edges = torch.linspace(-half_width, half_width, points + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    grid = torch.cartesian_prod(middle, middle)
    return log_density(grid).logsumexp(0) + 2 * math.log(2 * half_width / points)
