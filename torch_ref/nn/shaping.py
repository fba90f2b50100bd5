"""Layers without parameters: flattening with the channel slowest, and dropout from a key.

Twin of `jaxprob/nn/shaping.py`.
"""

import torch
from torch import Tensor, nn

from torch_ref import random
from torch_ref.nn.initializers import param_dtype

__all__ = ["Dropout", "Flatten"]


class Flatten(nn.Module):
    """Maps `[B, spatial..., C]` to `[B, F]` in the order that `torch.nn.Flatten` gives."""

    def forward(self, x: Tensor) -> Tensor:
        """Flattens all but the first axis."""
        return x.movedim(-1, 1).flatten(1)


class Dropout(nn.Module):
    """Sets elements to zero with probability `rate` and divides the others by 1 - rate.

    Args:
      rate: Probability of zero, in [0, 1].

    Raises:
      ValueError: A rate outside [0, 1].
    """

    def __init__(self, rate: float):
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"Dropout: rate must be a probability between 0 and 1; got {rate}.")
        self.rate = rate

    def forward(self, x: Tensor, key: Tensor | None, train: bool = True) -> Tensor:
        """Drops elements of `x`; `key` `[2]` is one of `torch_ref.random`."""
        if not train:
            return x
        probability = torch.tensor(1 - self.rate, dtype=param_dtype(x), device=x.device)
        kept = random.bernoulli(key, probability, x.shape)
        return torch.where(kept, x, 0) / (1 - self.rate) if self.rate < 1 else torch.zeros_like(x)
