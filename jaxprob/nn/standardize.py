"""Fixed standardisation of inputs: (x - mean) / std.

Twin: `torch_ref/nn/standardize.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.requirements import require_positive
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
        """Returns the layer for training inputs `x` `[N, D]`, an array or a table of numbers.

        Raises:
          ValueError: Another shape, a feature that is constant or not finite, or no numbers.
        """
        table = np.asarray(x)
        if table.dtype.kind not in "bifu" and not jnp.issubdtype(table.dtype, jnp.floating):
            raise ValueError(
                f"Standardize.of: x must hold numbers; got dtype {table.dtype}. Drop or encode the "
                "columns of words and dates first."
            )
        if table.ndim != 2 or not table.size:
            raise ValueError(
                f"Standardize.of: x must be [N, D] with at least one row; got shape {table.shape}. "
                "One feature is x[:, None]."
            )
        table = table.astype(np.promote_types(table.dtype, np.float64))
        finite = np.isfinite(table).all(0)
        if not finite.all():
            raise ValueError(
                f"Standardize.of: feature {int(np.argmin(finite))} of x is not finite in some row. "
                "Drop those rows, or fill them in."
            )
        constant = table.max(0) == table.min(0)
        if constant.any():
            raise ValueError(
                f"Standardize: feature {int(np.argmax(constant))} of x is constant (std 0); "
                "drop that column."
            )
        return cls(tuple(map(float, table.mean(0))), tuple(map(float, table.std(0))))

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B D"]) -> Float[Array, "*B D"]:
        """Maps `[*B, D]` in data units to `[*B, D]` with mean 0 and variance 1."""
        require_positive("Standardize", "Drop constant columns.", std=self.std)
        shape = (1,) * (x.ndim - 1) + (-1,)
        mean, std = (jnp.asarray(v, x.dtype).reshape(shape) for v in (self.mean, self.std))
        return (x - mean) / std
