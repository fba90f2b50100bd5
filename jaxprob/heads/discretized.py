"""Features to levels 0, 1, ..., n - 1, such as the grey of 8-bit pixels: a mixture of logistics.

    log p(y) = logsumexp_k [log w_k + log (F_k(y + 1/2) - F_k(y - 1/2))]

F_k is the logistic cdf of component k. The first and the last level take what lies beyond them, so
that all levels sum to 1; near levels share what they know, as classes would not.

Twin: `torch_ref/heads/discretized.py`. Source: Salimans et al., "PixelCNN++" (2017), section 2.1,
with channels that are independent.
"""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.distributions import Categorical, Independent, Logistic, MixtureSameFamily, Quantized
from jaxprob.heads.links import positive
from jaxprob.heads.mixture import SMALL
from jaxprob.types import AnyArray, Array, Key

__all__ = ["DiscretizedLogisticMixtureHead"]


class DiscretizedLogisticMixtureHead(nn.Module):
    """Weights, centres and scales of K logistic components for each target.

    Attributes:
      features: Number of targets D, independent of each other.
      num_components: Number of components K.
      levels: Number of levels n; a target is an integer from 0 to n - 1.
    """

    features: int = 1
    num_components: int = 5
    levels: int = 256

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> Independent:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`.

        Raises:
          ValueError: Fewer than two levels, or no component.
        """
        if self.levels < 2 or self.num_components < 1:
            raise ValueError(
                "DiscretizedLogisticMixtureHead: levels must be at least 2 and num_components at "
                f"least 1; got {self.levels} and {self.num_components}."
            )
        shape = (*h.shape[:-1], self.features, self.num_components)

        def layer(name: str, bias_init: Any = nn.initializers.zeros) -> Array:
            size = self.features * self.num_components
            dense = nn.Dense(size, kernel_init=SMALL, bias_init=bias_init, name=name)
            return dense(h).reshape(shape)

        # softplus^-1: each component starts about as wide as its share of the levels
        start = math.log(math.expm1(1.0 / self.num_components))
        logits = layer("logits")
        loc = layer("loc", self._spread)
        scale = positive(layer("scale", nn.initializers.constant(start)))
        unit = (self.levels - 1) / 2
        # rounding up from half a level below is rounding to the nearest
        continuous = Logistic(unit * (1.0 + loc) - 0.5, unit * scale)
        components = Quantized(continuous, 0, self.levels - 1)
        return Independent(MixtureSameFamily(Categorical(logits=logits), components), 1)

    def _spread(self, key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Centres in the middle of K equal parts of [-1, 1], for each target."""
        del key, shape
        count = self.num_components
        return jnp.tile((2 * jnp.arange(count, dtype=dtype) + 1) / count - 1, self.features)
