"""A normalising flow: a normal base seen through invertible maps.

    z ~ N(0, I),   x = T_n(... T_1(z))
    log p(x) = log N(z; 0, I) - sum_i log |det dT_i|

A transform is a Linen module with two methods, each the inverse of the other:

    forward(z, condition=None) -> (x, log |det dx/dz|)      z, x [*B, D], log-determinant [*B]
    inverse(x, condition=None) -> (z, log |det dz/dx|)

Which of the two takes one pass, and which D of them, is the transform's own trade.

Twin: `torch_ref/flows/flow.py`. Source: Rezende & Mohamed, "Variational inference with normalizing
flows" (2015), eqs. 5-7; Papamakarios et al., "Normalizing flows for probabilistic modeling and
inference" (2021), section 2.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.types import AnyArray, Array, Key

__all__ = ["Flow", "Inverse", "require_size"]


class Flow(nn.Module):
    """A density over vectors, which keeps its parameters inside: no distribution, but its methods.

        log_prob = model.apply({"params": params}, x)
        draws = model.apply({"params": params}, key, (1000,), method="sample")

    With a condition `[*B, C]` it is p(x | condition), one density for each row. The axes of a
    condition are the last batch axes of x, so that many draws share one condition.

    Attributes:
      features: Size D of an event.
      transforms: The maps T_1, ..., T_n, in the order of sampling.
    """

    features: int
    transforms: Sequence[nn.Module]

    takes = ("condition",)

    def __call__(self, x: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None) -> Array:
        """Returns `log_prob(x, condition)`."""
        return self.log_prob(x, condition)

    def log_prob(self, x: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None) -> Array:
        """Returns log p(x | condition) in nats, `[*B]`.

        Args:
          x: Events `[*B, D]`, numbers of any kind.
          condition: What the density depends on, `[*B, C]` or with fewer leading axes.

        Raises:
          ValueError: Shapes that do not fit.
        """
        z, log_det = self.inverse(x, condition)
        return self.base_log_prob(z) + log_det

    def sample(
        self, key: Key, sample_shape: int | Sequence[int] = (), condition: AnyArray | None = None
    ) -> Array:
        """Draws events `[*sample_shape, *B, D]`, B being the batch axes of the condition."""
        return self.sample_and_log_prob(key, sample_shape, condition)[0]

    def sample_and_log_prob(
        self, key: Key, sample_shape: int | Sequence[int] = (), condition: AnyArray | None = None
    ) -> tuple[Array, Array]:
        """Draws events and gives their log-density from the same pass.

        Args:
          key: Key of the draw.
          sample_shape: Leading axes of the draws; a number for one axis.
          condition: What the density depends on, `[*B, C]`.

        Returns:
          Events `[*sample_shape, *B, D]` and log p `[*sample_shape, *B]`.
        """
        batch = () if condition is None else condition.shape[:-1]
        lead = (sample_shape,) if isinstance(sample_shape, int) else sample_shape
        shape = (*lead, *batch, self.features)
        z = jax.random.normal(key, shape, self._dtype(condition))
        x, log_det = self.forward(z, condition)
        return x, self.base_log_prob(z) - log_det

    def forward(
        self, z: Float[AnyArray, "*B D"], condition: AnyArray | None = None
    ) -> tuple[Array, Array]:
        """Maps z of the base to x; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        z, condition = self._aligned("z", z, condition)
        total = jnp.zeros(z.shape[:-1], z.dtype)
        for transform in self.transforms:
            z, log_det = transform.forward(z, condition)
            total += log_det
        return z, total

    def inverse(
        self, x: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None
    ) -> tuple[Array, Array]:
        """Maps x to z of the base; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        x, condition = self._aligned("x", x, condition)
        total = jnp.zeros(x.shape[:-1], x.dtype)
        for transform in reversed(self.transforms):
            x, log_det = transform.inverse(x, condition)
            total += log_det
        return x, total

    def base_log_prob(self, z: Float[AnyArray, "*B D"]) -> Array:
        """Returns log N(z; 0, I) `[*B]`."""
        return -0.5 * jnp.sum(z**2, axis=-1) - 0.5 * self.features * math.log(2 * math.pi)

    def _aligned(
        self, name: str, x: AnyArray, condition: AnyArray | None
    ) -> tuple[Array, Array | None]:
        """Checks the shapes; gives the condition all batch axes of x."""
        x = jnp.asarray(x)
        x = x.astype(jnp.result_type(x, 1.0))  # a transform takes no integers
        if x.shape[-1] != self.features:
            raise ValueError(
                f"Flow: {name} has shape {x.shape}; expected events of size {self.features} on the "
                "last axis. Build the flow with features=" + f"{x.shape[-1]}."
            )
        if condition is None:
            return x, None
        batch = condition.shape[:-1]
        if batch != x.shape[:-1][x.ndim - 1 - len(batch) :]:
            raise ValueError(
                f"Flow: condition has batch axes {batch}; expected the last ones of {name}, whose "
                f"batch axes are {x.shape[:-1]}. Give one row of the condition for each event."
            )
        shape = (*x.shape[:-1], condition.shape[-1])
        lead = (1,) * (len(shape) - condition.ndim)
        return x, jnp.broadcast_to(jnp.asarray(condition).reshape(lead + condition.shape), shape)

    def _dtype(self, condition: AnyArray | None):
        """That of the parameters, so that float64 ones give float64 draws."""
        leaves = jax.tree.leaves(self.variables.get("params", {}))
        if leaves:
            return jnp.result_type(*leaves)
        return jnp.result_type(float) if condition is None else condition.dtype


def require_size(owner: str, x: AnyArray, size: int, of: str) -> None:
    """Raises a `ValueError` where the events of x are not as many elements as a transform maps."""
    if x.shape[-1:] != (size,):
        raise ValueError(
            f"{owner}: events have shape {x.shape}, but {of} has {size} entries. It wants one for "
            "each element of the last axis."
        )


class Inverse(nn.Module):
    """A transform the other way round: a fast density becomes fast sampling, or the reverse.

    Attributes:
      transform: The transform whose two directions change places.
    """

    transform: nn.Module

    def forward(self, z: Float[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Applies `transform.inverse`."""
        return self.transform.inverse(z, condition)

    def inverse(self, x: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Applies `transform.forward`."""
        return self.transform.forward(x, condition)
