"""Fixed standardisation of inputs: (x - mean) / std.

Twin: `torch_ref/nn/standardize.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.types import AnyArray, Array

__all__ = ["Standardize"]


class Standardize(nn.Module):
    """First layer of a model that takes its inputs in their own units.

    Attributes:
      mean: Mean of each feature in the training data, a number or a tuple of D numbers.
      std: Standard deviation of each feature, likewise (> 0).
    """

    mean: float | tuple[float, ...]
    std: float | tuple[float, ...]

    @classmethod
    def of(cls, x) -> "Standardize":
        """Returns the layer for training inputs `x` `[N, D]`.

        Raises:
          ValueError: A feature that is constant.
        """
        mean, std = jnp.mean(x, axis=0), jnp.std(x, axis=0)
        if bool(jnp.any(std == 0)):
            raise ValueError(
                f"Standardize: feature {int(jnp.argmax(std == 0))} of x is constant (std 0); "
                "drop that column."
            )
        return cls(tuple(map(float, mean)), tuple(map(float, std)))

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Float[Array, "*B D"]:
        """Maps `[*B, D]` in data units to `[*B, D]` with mean 0 and variance 1."""
        shape = (1,) * (x.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(v, x.dtype).reshape(shape) for v in (self.mean, self.std))
        return (x - mean) / std
