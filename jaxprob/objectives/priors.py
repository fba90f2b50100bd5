"""Priors over weights.

    log p(w) = -sum_i (w_i - loc)^2 / (2 scale^2) - P log scale - P log(2 pi) / 2

Twin: `torch_ref/objectives/priors.py`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxprob.types import Array, Params

__all__ = ["GaussianPrior"]


@dataclasses.dataclass(frozen=True)
class GaussianPrior:
    """Independent normal prior over every weight, fixed or learned (empirical Bayes).

    Attributes:
      scale: Standard deviation (> 0), in the units of the weights.
      loc: Mean.
      trainable: What variational inference may learn: any of "loc" (one mean for each weight) and
        "scale" (one scale for each group of weights, i.e. for each layer). `scale` and `loc` are
        then where the learning starts.

    Raises:
      ValueError: A scale that is not positive, or an unknown name in `trainable`.
    """

    scale: float = 1.0
    loc: float = 0.0
    trainable: tuple[str, ...] = ()

    def __post_init__(self):
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ValueError(
                f"GaussianPrior: scale must be positive and finite; got {self.scale}. It is a "
                "standard deviation."
            )
        if isinstance(self.trainable, str) or set(self.trainable) - {"loc", "scale"}:
            raise ValueError(
                f"GaussianPrior: trainable must be a tuple of 'loc' and 'scale'; got "
                f"{self.trainable!r}. Write trainable=('loc',)."
            )

    def log_prob(self, params: Params) -> Array:
        """Returns log p(w), summed over a pytree of weights, in nats (fixed prior)."""
        leaves = jax.tree.leaves(params)
        size = sum(leaf.size for leaf in leaves)
        squares = sum(jnp.sum(((leaf - self.loc) / self.scale) ** 2) for leaf in leaves)
        return -0.5 * squares - size * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))

    def init(self, num_weights: int, dtype=jnp.float32) -> dict[str, Array]:
        """Returns the learned parameters for a group of P weights: some of the two below."""
        params = {}
        if "loc" in self.trainable:
            params["loc"] = jnp.full((num_weights,), self.loc, dtype)
        if "scale" in self.trainable:
            params["log_scale"] = jnp.full((), math.log(self.scale), dtype)
        return params

    def loc_and_scale(self, params: dict[str, Array]) -> tuple[Array | float, Array | float]:
        """Returns mean (`[P]` or scalar) and scale (scalar) of a group, given `init`'s params."""
        scale = jnp.exp(params["log_scale"]) if "log_scale" in params else self.scale
        return params.get("loc", self.loc), scale
