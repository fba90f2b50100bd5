"""Layers without parameters: flattening in PyTorch's order, and dropout from an explicit key.

Twin: `torch_ref/nn/shaping.py`. Source: Srivastava et al., "Dropout: a simple way to prevent neural
networks from overfitting" (2014).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.nn.initializers import param_dtype
from jaxprob.requirements import require_in
from jaxprob.types import AnyArray, Array, Key

__all__ = ["Dropout", "Flatten"]


class Flatten(nn.Module):
    """`torch.nn.Flatten` for channels-last activations.

    The channel is the slowest index of the result, as in PyTorch, so that a `Linear` that follows
    has PyTorch's weight. A plain `reshape` makes it the fastest.
    """

    def __call__(self, x: Float[AnyArray, "B *spatial C"]) -> Float[Array, "B F"]:
        """Maps `[B, spatial..., C]` to `[B, C * prod(spatial)]`."""
        if x.ndim < 2:
            raise ValueError(
                f"Flatten: x must be [B, spatial..., C]; got shape {x.shape}. Add the batch axis."
            )
        return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], math.prod(x.shape[1:]))


class Dropout(nn.Module):
    """Sets elements to zero with probability `rate` and divides the others by 1 - rate.

    The mask is `jax.random.bernoulli(key, 1 - rate, x.shape)`, drawn in the dtype of `x` (float32
    for narrower ones); the twin draws the same one. Two layers need two keys: split them in the
    loss.

    Attributes:
      rate: Probability of zero, in [0, 1].
    """

    rate: float

    def __call__(
        self, x: Float[AnyArray, "*B"], key: Key | None, train: bool = True
    ) -> Float[Array, "*B"]:
        """Drops elements of an array of any shape.

        Args:
          x: Activations.
          key: Key; may be None where `train` is False.
          train: False returns `x`.

        Returns:
          The same shape.

        Raises:
          ValueError: A rate outside [0, 1], or no key to draw from.
        """
        if self.rate is None:
            raise ValueError("Dropout: rate must lie in [0, 1]; got None. 0.0 drops nothing.")
        require_in("Dropout", "[0, 1]", rate=self.rate)
        x = jnp.asarray(x)
        if not train or self.rate == 0:
            return x
        if self.rate == 1:  # x / 0 below would give NaN gradients
            return jnp.zeros_like(x)
        if key is None:
            raise ValueError(
                "Dropout: key must be a key when train is True; got None. Split one in the loss "
                "and hand it down, or pass train=False."
            )
        keep = 1 - self.rate
        mask = jax.random.bernoulli(key, jnp.asarray(keep, param_dtype(x)), x.shape)
        return jnp.where(mask, x / keep, 0)
