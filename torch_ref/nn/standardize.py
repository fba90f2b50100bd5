"""Fixed standardisation of inputs: (x - mean) / std.

Twin of `jaxprob/nn/standardize.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["Standardize"]


class Standardize(nn.Module):
    """First layer of a model that takes its inputs in their own units.

    Args:
      mean: Mean of each feature.
      std: Standard deviation of each feature (> 0).
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[*B, D]` in data units to mean 0 and variance 1."""
        return (x - torch.as_tensor(self.mean).to(x)) / torch.as_tensor(self.std).to(x)
