"""A table of vectors, one for each symbol of a vocabulary.

Twin: `torch_ref/nn/embedding.py`.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from jaxprob.distributions.constraints import Constraint
from jaxprob.distributions.validation import check_values
from jaxprob.nn.initializers import param_dtype, standard_normal
from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """`torch.nn.Embedding`: parameter `weight` `[V, D]`.

    An index outside of the table is an error. Inside `jit`, where a value cannot raise one, its
    vector is NaN (never that of another symbol), unless the function is wrapped in
    `jaxprob.checked`, which raises.

    Attributes:
      num_embeddings: Size of the vocabulary V.
      features: Size of a vector D.
    """

    num_embeddings: int
    features: int

    @nn.compact
    def __call__(self, indices: Integer[AnyArray, "*B"]) -> Float[Array, "*B D"]:
        """Maps integers `[*B]` in [0, V) to their vectors `[*B, D]`.

        Raises:
          ValueError: Indices that are no integers, or (outside `jit`) not in the table.
        """
        require_count("Embedding", num_embeddings=self.num_embeddings, features=self.features)
        indices = indices if hasattr(indices, "dtype") else np.asarray(indices)  # lists too
        if not jnp.issubdtype(indices.dtype, jnp.integer):
            raise ValueError(
                f"Embedding: indices must be integers; got dtype {indices.dtype}. Convert them, "
                "e.g. indices.astype(int)."
            )
        size = self.num_embeddings
        check_values("Embedding", "indices", indices, _in_table(size))
        weight = self.param(
            "weight", standard_normal(), (size, self.features), param_dtype(indices)
        )
        indices = jnp.asarray(indices, int)
        # a negative index would count from the end
        indices = jnp.where(indices < 0, size, indices)
        return jnp.asarray(weight).at[indices].get(mode="fill", fill_value=jnp.nan)


def _in_table(size: int) -> Constraint:
    return Constraint(
        f"in [0, {size}), the rows of the table",
        lambda value, xp: (value >= 0) & (value < size),
        "Raise num_embeddings, or map unknown symbols to an index of their own.",
    )
