"""Linear layers with a mask, and the autoregressive network made of them.

Which connection is allowed is found by following the chain: unit h of a layer may know the first
`known[h]` inputs of the order.

Twin of `jaxprob/nn/masked.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MADE", "MaskedDense"]


class MaskedDense(nn.Linear):
    """A linear layer, some of whose connections are cut; the mask is a buffer that is not saved."""

    mask: Tensor

    def __init__(self, in_features: int, features: int, mask: Tensor):
        super().__init__(in_features, features)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[*B, in_features]` to `[*B, features]`."""
        return F.linear(x, self.weight.masked_fill(~self.mask, 0.0), self.bias)


class MADE(nn.Module):
    """P numbers for each input, made of the inputs before it alone.

    Args:
      features: Number of inputs D.
      hidden: Width of each hidden layer.
      num_outputs: Numbers P for each input.
      order: Indices of the inputs, the first of the chain first.
      activation: Elementwise function between the layers.
      condition_features: Size C of what every output may see.
      zero_output: Whether to start with outputs 0.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (64, 64),
        num_outputs: int = 1,
        order: Sequence[int] | None = None,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        condition_features: int = 0,
        zero_output: bool = False,
    ):
        super().__init__()
        self.features, self.num_outputs, self.activation = features, num_outputs, activation
        chain = list(range(features)) if order is None else list(order)
        position = torch.tensor([chain.index(d) for d in range(features)])
        # An input is known from the step after its own on; a condition from the start.
        known = torch.cat([position + 1, torch.zeros(condition_features, dtype=torch.long)])
        fewest = 0 if condition_features else min(1, features - 1)
        self.depth = len(hidden)
        for i, width in enumerate(hidden):
            levels = torch.arange(width) * (features - fewest)
            reach = fewest + torch.div(levels, width, rounding_mode="floor")
            mask = known.unsqueeze(0) <= reach.unsqueeze(1)
            self.add_module(f"hidden_{i}", MaskedDense(len(known), width, mask))
            known = reach
        mask = known.unsqueeze(0) <= position.repeat_interleave(num_outputs).unsqueeze(1)
        self.out = MaskedDense(len(known), features * num_outputs, mask)
        if zero_output:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps `[*B, D]` to `[*B, D, P]`."""
        h = x if condition is None else torch.cat([x, condition], -1)
        for i in range(self.depth):
            h = self.activation(self.get_submodule(f"hidden_{i}")(h))
        return self.out(h).unflatten(-1, (self.features, self.num_outputs))
