"""Couplings: some elements pass unchanged and say how each of the others is mapped.

Twin of `jaxprob/flows/couplings.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.flows.splines import num_parameters, rational_quadratic
from torch_ref.heads.links import bounded
from torch_ref.nn import MLP

__all__ = ["SCALE_BOUND", "AffineCoupling", "SplineCoupling", "alternating_mask"]

SCALE_BOUND = 3.0

Activation = Callable[[Tensor], Tensor]


def alternating_mask(features: int, layer: int) -> tuple[bool, ...]:
    """Returns which elements pass: even and odd ones by turns; of a single one, none."""
    if features == 1:
        return (False,)
    return tuple(d % 2 == layer % 2 for d in range(features))


class Coupling(nn.Module):
    """A network of the passing elements, whose output says how to map the others."""

    passes: Tensor

    def __init__(
        self,
        mask: Sequence[bool],
        hidden: Sequence[int],
        activation: Activation,
        condition_features: int,
        numbers: int,
    ):
        super().__init__()
        self.register_buffer("passes", torch.tensor(mask), persistent=False)
        passing = sum(mask)
        self.numbers = numbers
        self.conditioner = MLP(passing + condition_features, hidden, activation)
        self.out = nn.Linear(self.conditioner.out_features, (len(mask) - passing) * numbers)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def parameters_of(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Returns the numbers for each element that is mapped, `[*B, moving, numbers]`."""
        seen = x[..., self.passes]
        h = seen if condition is None else torch.cat([seen, condition], -1)
        return self.out(self.conditioner(h)).unflatten(-1, (-1, self.numbers))

    def replaced(self, x: Tensor, moved: Tensor) -> Tensor:
        """Returns x with other values where elements do not pass."""
        return x.masked_scatter(~self.passes, moved)


class AffineCoupling(Coupling):
    """A stretch and a shift.

    Args:
      mask: For each element, True where it passes unchanged.
      hidden: Widths of the network.
      activation: Elementwise function between its layers.
      scale_bound: Bound on the log-scale.
      condition_features: Size C of a condition.
    """

    def __init__(
        self,
        mask: Sequence[bool],
        hidden: Sequence[int] = (64, 64),
        activation: Activation = F.silu,
        scale_bound: float = SCALE_BOUND,
        condition_features: int = 0,
    ):
        super().__init__(mask, hidden, activation, condition_features, 2)
        self.scale_bound = scale_bound

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        shift, raw = self.parameters_of(z, condition).unbind(-1)
        log_scale = bounded(raw, self.scale_bound)
        moved = torch.addcmul(shift, z[..., ~self.passes], log_scale.exp())
        return self.replaced(z, moved), log_scale.sum(-1)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        shift, raw = self.parameters_of(x, condition).unbind(-1)
        log_scale = bounded(raw, self.scale_bound)
        moved = (x[..., ~self.passes] - shift) / log_scale.exp()
        return self.replaced(x, moved), -log_scale.sum(-1)


class SplineCoupling(Coupling):
    """A spline for each element that does not pass.

    Args:
      mask: For each element, True where it passes unchanged.
      hidden: Widths of the network.
      activation: Elementwise function between its layers.
      bins: Number of bins K.
      bound: Half the width of the interval that is bent.
      condition_features: Size C of a condition.
    """

    def __init__(
        self,
        mask: Sequence[bool],
        hidden: Sequence[int] = (64, 64),
        activation: Activation = F.silu,
        bins: int = 8,
        bound: float = 5.0,
        condition_features: int = 0,
    ):
        super().__init__(mask, hidden, activation, condition_features, num_parameters(bins))
        self.bound = bound

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x."""
        raw = self.parameters_of(z, condition)
        moved, log_slope = rational_quadratic(z[..., ~self.passes], raw, self.bound)
        return self.replaced(z, moved), log_slope.sum(-1)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z."""
        raw = self.parameters_of(x, condition)
        moved, log_slope = rational_quadratic(x[..., ~self.passes], raw, self.bound, inverse=True)
        return self.replaced(x, moved), log_slope.sum(-1)
