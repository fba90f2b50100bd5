"""A multilayer perceptron: h_{i+1} = activation(h_i W_i + b_i).

Twin: `torch_ref/nn/mlp.py`.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array

__all__ = ["MLP"]


class MLP(nn.Module):
    """Dense layers, each followed by the activation; the last one too, since a head comes next.

    Attributes:
      hidden: Width of each layer.
      activation: Elementwise function. For a torch twin write `partial(nn.gelu,
        approximate=False)`: Flax's default is the tanh form, PyTorch's is not.
    """

    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Float[Array, "*B H"]:
        """Maps features `[*B, D]` to features `[*B, hidden[-1]]`."""
        if np.ndim(self.hidden) != 1:
            raise ValueError(
                f"MLP: hidden must be the widths of the layers, as (64, 64); got {self.hidden!r}."
            )
        for i, width in enumerate(self.hidden):
            require_count("MLP", hidden=width)
            x = self.activation(nn.Dense(width, name=f"hidden_{i}")(x))
        return jnp.asarray(x)
