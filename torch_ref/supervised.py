"""The supervised models: a backbone and a head.

Twin of `jaxprob/supervised.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Distribution
from torch_ref.heads import NormalHead
from torch_ref.nn import MLP

__all__ = ["GaussianRegressor"]


class GaussianRegressor(nn.Module):
    """Regression with a normal likelihood; see the twin for the arguments."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        features: int = 1,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        homoscedastic: bool = False,
        target_mean: float = 0.0,
        target_std: float = 1.0,
    ):
        super().__init__()
        self.backbone = MLP(in_features, hidden, activation)
        self.head = NormalHead(
            self.backbone.out_features, features, homoscedastic, target_mean, target_std
        )

    def forward(self, x: Tensor) -> Distribution:
        """Maps `[*B, D_in]` to a distribution over `[*B, D]`."""
        return self.head(self.backbone(x))
