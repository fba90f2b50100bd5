"""The masked affine autoregressive transform: z_d = (x_d - m_d) / e^{s_d}, (m, s) = MADE(x).

Twin of `jaxprob/flows/autoregressive.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.flows.couplings import SCALE_BOUND
from torch_ref.heads.links import bounded
from torch_ref.nn import MADE

__all__ = ["MaskedAffineAutoregressive"]


class MaskedAffineAutoregressive(nn.Module):
    """A stretch and a shift of each element, given by the elements before it.

    Args:
      features: Size D of an event.
      hidden: Widths of the masked network.
      order: Indices of the elements, the first of the chain first.
      activation: Elementwise function between its layers.
      scale_bound: Bound on the log-scale.
      condition_features: Size C of a condition.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (64, 64),
        order: Sequence[int] | None = None,
        activation: Callable[[Tensor], Tensor] = F.silu,
        scale_bound: float = SCALE_BOUND,
        condition_features: int = 0,
    ):
        super().__init__()
        self.order = list(range(features) if order is None else order)
        self.scale_bound = scale_bound
        self.made = MADE(features, hidden, 2, order, activation, condition_features, True)

    def inverse(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps x to z in one pass."""
        shift, raw = self.made(x, condition).unbind(-1)
        log_scale = bounded(raw, self.scale_bound)
        return (x - shift) / log_scale.exp(), -log_scale.sum(-1)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps z to x, one element after the other."""
        columns = {d: torch.zeros_like(z[..., d]) for d in self.order}
        log_det = z.new_zeros(z.shape[:-1])
        for d in self.order:
            x = torch.stack([columns[i] for i in range(len(columns))], -1)
            shift, raw = self.made(x, condition)[..., d, :].unbind(-1)
            log_scale = bounded(raw, self.scale_bound)
            columns[d] = shift + log_scale.exp() * z[..., d]
            log_det = log_det + log_scale
        return torch.stack([columns[i] for i in range(len(columns))], -1), log_det
