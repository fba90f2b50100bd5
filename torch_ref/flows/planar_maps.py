"""The planar transform: x = z + v tanh(w.z + b).

The inverse halves a bracket for w.z; one step of Newton's method from the root, which moves it by
nothing, carries the gradient.

Twin of `jaxprob/flows/planar_maps.py`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.heads.links import softplus
from torch_ref.nn import MLP

__all__ = ["Planar"]


class Planar(nn.Module):
    """One planar map; a condition adds to its parameters.

    Args:
      features: Size D of an event.
      hidden: Widths of the network from a condition to what it adds.
      activation: Elementwise function between its layers.
      condition_features: Size C of a condition.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (),
        activation: Callable[[Tensor], Tensor] = F.silu,
        condition_features: int = 0,
    ):
        super().__init__()
        self.w = nn.Parameter(torch.randn(features) / math.sqrt(features))
        self.u = nn.Parameter(torch.zeros(features))
        self.b = nn.Parameter(torch.zeros(1))
        if condition_features:
            self.conditioner = MLP(condition_features, hidden, activation)
            self.out = nn.Linear(self.conditioner.out_features, 2 * features + 1)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def directions(self, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns w, v, b and w.v."""
        w, u, b = self.w, self.u, self.b
        if condition is None and hasattr(self, "out"):
            raise ValueError("Planar: made for a condition, and none was given.")
        if condition is not None:
            sizes = (w.numel(), u.numel(), 1)
            add = self.out(self.conditioner(condition)).split(sizes, dim=-1)
            w, u, b = w + add[0], u + add[1], b + add[2]
        along = (w * u).sum(-1, keepdim=True)
        allowed = softplus(along + math.log(math.e - 1)) - 1
        v = u + (allowed - along) * w / w.square().sum(-1, keepdim=True)
        return w, v, b, allowed

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        w, v, b, along = self.directions(condition)
        bend = torch.tanh((w * z).sum(-1, keepdim=True) + b)
        log_det = torch.log1p((1 - bend.square()) * along).squeeze(-1)
        return z + v * bend, log_det

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        w, v, b, along = self.directions(condition)
        target = (w * x).sum(-1, keepdim=True)
        with torch.no_grad():
            low, high = target - along.abs(), target + along.abs()
            for _ in range(64):
                a = (low + high) / 2
                above = a + along * torch.tanh(a + b) > target
                low, high = torch.where(above, low, a), torch.where(above, a, high)
            a = (low + high) / 2
            rise = 1 + along / torch.cosh(a + b).square()
        a = a - (a + along * torch.tanh(a + b) - target) / rise
        bend = torch.tanh(a + b)
        return x - v * bend, -torch.log1p((1 - bend.square()) * along).squeeze(-1)
