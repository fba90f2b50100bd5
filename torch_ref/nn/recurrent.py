"""Recurrent networks: torch's own, with padding handled by packed sequences.

Twin of `jaxprob/nn/recurrent.py`.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

__all__ = ["GRU", "LSTM", "RNN"]


class _Packed:
    """Gives a recurrent layer the argument `lengths`, `[B]` from 1 to T (torch knows no empty one).

    Outputs are 0 in the padding and final states those of the last valid step.
    """

    def forward(
        self, x: Tensor, initial: Any = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if lengths is None:
            return super().forward(x, initial)
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, final = super().forward(packed, initial)
        return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], final


class RNN(_Packed, nn.RNN):
    """`torch.nn.RNN`: `[B, T, in_features]` to outputs `[B, T, H * directions]` and final states.

    Args:
      in_features: Size of the inputs.
      hidden_size: Size of the state H.
      num_layers: Number of layers.
      bidirectional: Whether a second network reads backwards in time.
      bias: Whether there are biases.
      nonlinearity: "tanh" or "relu".
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        nonlinearity: str = "tanh",
    ):
        super().__init__(
            in_features,
            hidden_size,
            num_layers,
            nonlinearity=nonlinearity,
            bias=bias,
            batch_first=True,
            bidirectional=bidirectional,
        )


class GRU(_Packed, nn.GRU):
    """`torch.nn.GRU`; arguments as in `RNN`."""

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
    ):
        super().__init__(
            in_features,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            bidirectional=bidirectional,
        )


class LSTM(_Packed, nn.LSTM):
    """`torch.nn.LSTM`; arguments as in `RNN`, states are pairs (h, c)."""

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
    ):
        super().__init__(
            in_features,
            hidden_size,
            num_layers,
            bias=bias,
            batch_first=True,
            bidirectional=bidirectional,
        )
