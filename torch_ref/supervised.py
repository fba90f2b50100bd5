"""The supervised models: a backbone and a head.

Twin of `jaxprob/supervised.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Distribution
from torch_ref.heads import BernoulliHead, CategoricalHead, MixtureHead, NormalHead
from torch_ref.nn import MLP

__all__ = [
    "BernoulliClassifier",
    "CategoricalClassifier",
    "GaussianRegressor",
    "MixtureDensityNetwork",
]

Activation = Callable[[Tensor], Tensor]


class Supervised(nn.Module):
    """A backbone and the head that fits on it."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        activation: Activation,
        head: Callable[[int], nn.Module],
    ):
        super().__init__()
        self.backbone = MLP(in_features, hidden, activation)
        self.head = head(self.backbone.out_features)

    def forward(self, x: Tensor) -> Distribution:
        """Maps `[*B, D_in]` to a distribution over the targets."""
        return self.head(self.backbone(x))


class GaussianRegressor(Supervised):
    """Regression with a normal likelihood; see the twin for the arguments."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        features: int = 1,
        activation: Activation = torch.relu,
        homoscedastic: bool = False,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        def head(size: int) -> NormalHead:
            return NormalHead(size, features, homoscedastic, target_mean, target_std)

        super().__init__(in_features, hidden, activation, head)


class BernoulliClassifier(Supervised):
    """Binary classification."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        features: int = 1,
        activation: Activation = torch.relu,
    ):
        super().__init__(
            in_features, hidden, activation, lambda size: BernoulliHead(size, features)
        )


class CategoricalClassifier(Supervised):
    """Classification into one of K classes."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = torch.relu,
    ):
        super().__init__(
            in_features, hidden, activation, lambda size: CategoricalHead(size, num_classes)
        )


class MixtureDensityNetwork(Supervised):
    """Regression with a mixture of normals for each input."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (64, 64),
        components: int = 5,
        features: int = 1,
        activation: Activation = torch.tanh,
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
    ):
        def head(size: int) -> MixtureHead:
            return MixtureHead(size, components, features, target_mean, target_std)

        super().__init__(in_features, hidden, activation, head)
