"""The supervised models that a newcomer looks for: a backbone and a head under one name.

Twin: `torch_ref/supervised.py`.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
from jaxtyping import Float

from jaxprob.distributions import Distribution
from jaxprob.heads import BernoulliHead, CategoricalHead, MixtureHead, NormalHead
from jaxprob.nn import MLP
from jaxprob.types import AnyArray, Array

__all__ = [
    "BernoulliClassifier",
    "CategoricalClassifier",
    "GaussianRegressor",
    "MixtureDensityNetwork",
]


class GaussianRegressor(nn.Module):
    """Regression with a normal likelihood whose mean and scale depend on the input.

    Attributes:
      hidden: Width of each hidden layer.
      features: Number of targets D.
      activation: Elementwise function between the layers.
      homoscedastic: True for one scale that does not depend on the input.
      target_mean: Mean of the targets (see `NormalHead`).
      target_std: Standard deviation of the targets.
    """

    hidden: Sequence[int] = (64, 64)
    features: int = 1
    activation: Callable[[Array], Array] = nn.relu
    homoscedastic: bool = False
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Distribution:
        """Maps inputs `[*B, D_in]` to a distribution over targets `[*B, D]`."""
        h = MLP(self.hidden, self.activation, name="backbone")(x)
        return NormalHead(
            self.features, self.homoscedastic, self.target_mean, self.target_std, name="head"
        )(h)


class BernoulliClassifier(nn.Module):
    """Binary classification (logistic regression where `hidden` is empty).

    Attributes:
      hidden: Width of each hidden layer.
      features: Number of yes-or-no targets D.
      activation: Elementwise function between the layers.
    """

    hidden: Sequence[int] = (64, 64)
    features: int = 1
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Distribution:
        """Maps inputs `[*B, D_in]` to a distribution over targets `[*B, D]`, each 0 or 1."""
        h = MLP(self.hidden, self.activation, name="backbone")(x)
        return BernoulliHead(self.features, name="head")(h)


class CategoricalClassifier(nn.Module):
    """Classification into one of K classes (softmax regression where `hidden` is empty).

    Attributes:
      num_classes: Number of classes K.
      hidden: Width of each hidden layer.
      activation: Elementwise function between the layers.
    """

    num_classes: int
    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Distribution:
        """Maps inputs `[*B, D_in]` to a distribution over classes `[*B]`, integers 0 to K - 1."""
        h = MLP(self.hidden, self.activation, name="backbone")(x)
        return CategoricalHead(self.num_classes, name="head")(h)


class MixtureDensityNetwork(nn.Module):
    """Regression where several answers may be right: a mixture of K normals for each input.

    Attributes:
      hidden: Width of each hidden layer.
      components: Number of components K.
      features: Number of targets D.
      activation: Elementwise function between the layers. A smooth one suits a smooth density.
      target_mean: Mean of the targets (see `MixtureHead`).
      target_std: Standard deviation of the targets.
    """

    hidden: Sequence[int] = (64, 64)
    components: int = 5
    features: int = 1
    activation: Callable[[Array], Array] = nn.tanh
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Distribution:
        """Maps inputs `[*B, D_in]` to a distribution over targets `[*B, D]`."""
        h = MLP(self.hidden, self.activation, name="backbone")(x)
        return MixtureHead(
            self.components, self.features, self.target_mean, self.target_std, name="head"
        )(h)
