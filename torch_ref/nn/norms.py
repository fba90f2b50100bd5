"""Normalisation by layer, group, batch and root mean square, on channels-last activations.

Twin of `jaxprob/nn/norms.py`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"]


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last axis.

    Args:
      features: Size of the last axis C.
      eps: Added to the variance.
      elementwise_affine: Whether there are a weight and a bias.
      bias: Whether there is a bias beside the weight.
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ):
        super().__init__(features, eps, elementwise_affine, bias)


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm` on `[B, spatial..., C]`.

    Args:
      features: Channels C.
      num_groups: Number of blocks of neighbouring channels.
      eps: Added to the variance.
    """

    def __init__(self, features: int, num_groups: int, *, eps: float = 1e-5):
        super().__init__(num_groups, features, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalises each row and group."""
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


class RMSNorm(nn.RMSNorm):
    """`torch.nn.RMSNorm` over the last axis.

    Args:
      features: Size of the last axis C.
      eps: Added to the mean square; None for the machine epsilon.
    """

    def __init__(self, features: int, *, eps: float | None = None):
        super().__init__(features, eps)


class BatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, `2d` and `3d` in one, on `[*B, spatial..., C]`.

    As in `jaxprob`, an argument tells training from evaluation, not the module's mode. The buffer
    `num_batches_tracked` is torch's own; nothing here reads it.

    Args:
      features: Channels C.
      momentum: Weight of the newest batch in the running statistics.
      eps: Added to the variance.
    """

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5):
        if momentum is None:
            raise ValueError(
                "BatchNorm: momentum must be a number; got None. torch's average of all batches "
                "has no counterpart in jaxprob: give a weight of the newest batch, such as 0.1."
            )
        super().__init__(features, eps, momentum)

    def forward(self, x: Tensor, train: bool) -> Tensor:
        """Normalises; with `train` by the batch, which also moves the running statistics."""
        rows = x.reshape(-1, x.shape[-1])
        y = F.batch_norm(
            rows,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            train,
            self.momentum,
            self.eps,
        )
        return y.reshape(x.shape)
