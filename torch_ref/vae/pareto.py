"""The shape of the tail of importance weights.

Twin of `jaxprob/vae/pareto.py`.
"""

import math

import torch
from torch import Tensor

__all__ = ["largest_reliable", "tail_shape", "tail_size"]


def tail_size(num: int) -> int:
    """Returns how many of `num` weights are in the tail."""
    return math.ceil(min(num / 5, 3 * num**0.5))


def largest_reliable(num: int) -> float:
    """Returns the k up to which the average of `num` weights may be believed."""
    return min(1 - 1 / math.log10(num), 0.7)


def tail_shape(largest: Tensor) -> Tensor:
    """Returns k of falling log-weights `[M + 1, B]`, the last of which is the threshold."""
    found = []
    for column in largest.unbind(1):
        weights = (column - column[0]).exp()
        x = (weights[:-1] - weights[-1]).clamp(min=1e-30).flip(0)
        n = len(x)
        resolution = 64 * torch.finfo(x.dtype).eps * column[0].abs().clamp(min=1)
        if n < 5 or column[0] - column[-1] <= resolution:
            found.append(x.new_tensor(math.nan if n < 5 else 0.0))
            continue
        m = 30 + int(n**0.5)
        j = torch.arange(1, m + 1, dtype=x.dtype)
        theta = 1 / x[-1] + (1 - (m / (j - 0.5)).sqrt()) / (3 * x[int(n / 4 + 0.5) - 1])
        k = (-theta[:, None] * x).log1p().mean(1)
        profile = n * ((-theta / k).log() - k - 1)
        k = (-(profile.softmax(0) @ theta) * x).log1p().mean()
        found.append((n * k + 10 * 0.5) / (n + 10))
    return torch.stack(found)
