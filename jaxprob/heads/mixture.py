"""Features to a mixture of normals: the mixture density network's last layer.

    log p(y) = logsumexp_k [log w_k + sum_d log N(y_d; loc_kd, scale_kd)]

Twin: `torch_ref/heads/mixture.py`. Source: Bishop, "Mixture density networks" (1994), with a
scale for each component and target.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Float

from jaxprob.distributions import Categorical, Independent, MixtureSameFamily, Normal
from jaxprob.heads.links import SCALE_FLOOR, in_units, positive
from jaxprob.requirements import require_count, require_positive
from jaxprob.types import AnyArray, Array, Key

__all__ = ["MixtureHead", "centres"]

SMALL = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
"""Kernels start small: the first predictions then hardly depend on the input, only the centres do,
and no component starts far from the data, where its gradient would vanish."""


class MixtureHead(nn.Module):
    """Weights, means and scales of K normal components, each by a dense layer.

    Attributes:
      components: Number of components K.
      features: Number of targets D, independent within a component.
      target_mean: Mean of the targets (a number, or one for each).
      target_std: Standard deviation of the targets, likewise: the centres start spread over them.
    """

    components: int = 5
    features: int = 1
    target_mean: float | Sequence[float] = 0.0
    target_std: float | Sequence[float] = 1.0

    @nn.compact
    def __call__(self, h: Float[AnyArray, "*B H"]) -> MixtureSameFamily:
        """Maps features `[*B, H]` to a distribution over targets `[*B, D]`."""
        require_count("MixtureHead", components=self.components, features=self.features)
        shape = (*h.shape[:-1], self.components, self.features)
        logits = nn.Dense(self.components, kernel_init=SMALL, name="logits")(h)
        loc = nn.Dense(
            math.prod(shape[-2:]),
            kernel_init=SMALL,
            bias_init=lambda key, _, dtype=jnp.float32: centres(key, shape[-2:], dtype).reshape(-1),
            name="loc",
        )(h).reshape(shape)
        # softplus^-1(start): as wide as the gaps between the centres
        start = max(1.0 / self.components, 10 * SCALE_FLOOR)
        raw = nn.Dense(
            math.prod(shape[-2:]),
            kernel_init=SMALL,
            bias_init=nn.initializers.constant(math.log(math.expm1(start))),
            name="scale",
        )(h).reshape(shape)
        require_positive("MixtureHead", target_std=self.target_std)
        unit = in_units(self.target_std, loc)
        loc = in_units(self.target_mean, loc) + unit * loc
        components = Independent(Normal(loc, unit * positive(raw)), 1)
        return MixtureSameFamily(Categorical(logits=logits), components)


def centres(key: Key, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Returns K starting points `[K, D]`, spread over a standard normal.

    In each direction the K points stand at the quantiles (k + 1/2) / K, in random order beyond the
    first (a Latin hypercube): no two components start in one place.
    """
    count, features = shape
    quantiles = ndtri((jnp.arange(count, dtype=dtype) + 0.5) / count)
    keys = jax.random.split(key, features)
    columns = [quantiles, *(jax.random.permutation(k, quantiles) for k in keys[1:])]
    return jnp.stack(columns, axis=-1)
