"""Recurrent networks: torch's own, with padding handled by packed sequences.

Twin of `jaxprob/nn/recurrent.py`.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["GRU", "LSTM", "RNN"]


class _Recurrent:
    """torch's layer, batch first, with the argument `lengths`, `[B]` from 1 to T.

    (torch knows no empty sequence.) Outputs are 0 in the padding and final states those of the last
    valid step.

    Args:
      in_features: Size of the inputs.
      hidden_size: Size of the state H.
      num_layers: Number of layers.
      bidirectional: Whether a second network reads backwards in time.
      bias: Whether there are biases.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        bias: bool = True,
        **options: Any,
    ):
        super().__init__(
            in_features,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            bidirectional=bidirectional,
            **options,
        )

    def forward(
        self, x: Tensor, initial: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if lengths is None:
            return super().forward(x, initial)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, final = super().forward(packed, initial)
        return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], final


class RNN(_Recurrent, nn.RNN):
    """`torch.nn.RNN`; also `nonlinearity`, "tanh" (the default) or "relu"."""


class GRU(_Recurrent, nn.GRU):
    """`torch.nn.GRU`."""


class LSTM(_Recurrent, nn.LSTM):
    """`torch.nn.LSTM`; states are pairs (h, c)."""
