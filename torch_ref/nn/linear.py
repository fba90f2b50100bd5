"""The affine map y = x W^T + b.

Twin of `jaxprob/nn/linear.py`.
"""

from torch import nn

__all__ = ["Linear"]


class Linear(nn.Linear):
    """`torch.nn.Linear` itself: `[*B, in_features]` to `[*B, features]`.

    Args:
      in_features: Size of the input.
      features: Size of the output.
      bias: Whether there is a bias.
    """

    def __init__(self, in_features: int, features: int, bias: bool = True):
        super().__init__(in_features, features, bias)
