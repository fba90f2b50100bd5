"""A multilayer perceptron, each linear layer followed by the activation.

Twin of `jaxprob/nn/mlp.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers `hidden_0`, `hidden_1`, ... with an activation after each.

    Args:
      in_features: Size of the input D.
      hidden: Width of each layer.
      activation: Elementwise function.
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ):
        super().__init__()
        self.activation = activation
        for i, width in enumerate(hidden):
            self.add_module(f"hidden_{i}", nn.Linear(in_features, width))
            in_features = width
        self.out_features = in_features

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[*B, D]` to `[*B, hidden[-1]]`."""
        for layer in self.children():
            x = self.activation(layer(x))
        return x
