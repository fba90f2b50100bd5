"""The supervised models that a newcomer looks for: a backbone and a head under one name.

Twin: `torch_ref/supervised.py`.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
from jaxtyping import Float

from jaxprob.distributions import Distribution
from jaxprob.heads import NormalHead
from jaxprob.nn import MLP
from jaxprob.types import AnyArray, Array

__all__ = ["GaussianRegressor"]


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
    target_mean: float = 0.0
    target_std: float = 1.0

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Distribution:
        """Maps inputs `[*B, D_in]` to a distribution over targets `[*B, D]`."""
        h = MLP(self.hidden, self.activation, name="backbone")(x)
        return NormalHead(
            self.features, self.homoscedastic, self.target_mean, self.target_std, name="head"
        )(h)
