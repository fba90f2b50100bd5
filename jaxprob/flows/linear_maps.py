"""Linear maps: a change of units, a permutation, and an invertible matrix by its factors.

    Rescale       x = mean + std z
    Permutation   x_i = z_{order_i}
    LULinear      x = L U z + b      L unit lower, U upper triangular with diagonal e^d

Twin: `torch_ref/flows/linear_maps.py`. Source: Kingma & Dhariwal, "Glow: generative flow with
invertible 1x1 convolutions" (2018), section 3.2; Durkan et al., "Neural spline flows" (2019).
Their PLU has a fixed permutation P: put a `Permutation` after `LULinear`.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Float, Shaped

from jaxprob.distributions.validation import align
from jaxprob.flows.couplings import SCALE_BOUND
from jaxprob.flows.flow import require_size
from jaxprob.heads.links import bounded
from jaxprob.nn.initializers import param_dtype
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray, Array, Key

__all__ = ["LULinear", "Permutation", "Rescale"]


class Rescale(nn.Module):
    """The last map of a flow over data in their own units: x = mean + std z. It learns nothing.

    Attributes:
      mean: Mean of each element in the training data, a number or D numbers.
      std: Standard deviation of each element, likewise (> 0).
    """

    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def setup(self) -> None:
        """Checks the units."""
        require_positive("Rescale", std=self.std)

    def forward(self, z: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps z to x; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        mean, std = self._units(z)
        return mean + std * z, jnp.sum(jnp.broadcast_to(jnp.log(std), z.shape), axis=-1)

    def inverse(self, x: Shaped[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps x to z; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        mean, std = self._units(x)
        return (x - mean) / std, -jnp.sum(jnp.broadcast_to(jnp.log(std), x.shape), axis=-1)

    def _units(self, x: AnyArray) -> tuple[Array, Array]:
        for name, value in (("its mean", self.mean), ("its std", self.std)):
            if np.ndim(value):
                require_size("Rescale", x, np.size(value), name)
        dtype = jnp.result_type(x, 1.0)  # units are no integers, whatever the data are
        mean, std = (align(jnp.asarray(v, dtype), x.ndim) for v in (self.mean, self.std))
        return mean, std


class Permutation(nn.Module):
    """A fixed order of the elements: x_i = z_{order_i}.

    Attributes:
      order: Each of 0..D-1 once.
    """

    order: Sequence[int]

    @classmethod
    def reverse(cls, features: int) -> "Permutation":
        """Returns the map that turns the elements round."""
        return cls(tuple(reversed(range(features))))

    @classmethod
    def random(cls, key: Key, features: int) -> "Permutation":
        """Returns an order drawn from a key, fixed from then on."""
        return cls(tuple(int(i) for i in jax.random.permutation(key, features)))

    def setup(self) -> None:
        """Checks the order."""
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(
                f"Permutation: order must list each of 0..{len(self.order) - 1} once; got "
                f"{tuple(self.order)}."
            )

    def forward(self, z: Float[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps z to x; returns x `[*B, D]` and zeros `[*B]`."""
        require_size("Permutation", z, len(self.order), "its order")
        return jnp.asarray(z)[..., np.array(self.order)], jnp.zeros(z.shape[:-1], z.dtype)

    def inverse(self, x: Float[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps x to z; returns z `[*B, D]` and zeros `[*B]`."""
        require_size("Permutation", x, len(self.order), "its order")
        return jnp.asarray(x)[..., np.argsort(self.order)], jnp.zeros(x.shape[:-1], x.dtype)


class LULinear(nn.Module):
    """An invertible linear map with a bias; it starts as the identity.

    Parameters: `lower` and `upper`, the entries below and above the diagonal row by row, each
    `[D (D - 1) / 2]`; `log_diagonal` `[D]`, bounded by tanh as log-scales are; `bias` `[D]`.

    Attributes:
      features: Size D of an event.
      scale_bound: Bound on the logarithm of the diagonal of U.
    """

    features: int
    scale_bound: float = SCALE_BOUND

    @nn.compact
    def _factors(self, x: AnyArray) -> tuple[Array, Array, Array, Array]:
        """L, U, the logarithm of U's diagonal, and the bias."""
        size, dtype, zeros = self.features, param_dtype(x), nn.initializers.zeros
        lower = self.param("lower", zeros, (size * (size - 1) // 2,), dtype)
        upper = self.param("upper", zeros, (size * (size - 1) // 2,), dtype)
        log_diagonal = self.param("log_diagonal", zeros, (size,), dtype)
        bias = self.param("bias", zeros, (size,), dtype)
        log_diagonal = bounded(log_diagonal, self.scale_bound)
        left = jnp.eye(size, dtype=lower.dtype).at[np.tril_indices(size, -1)].set(lower)
        right = jnp.diag(jnp.exp(log_diagonal)).at[np.triu_indices(size, 1)].set(upper)
        return left, right, log_diagonal, align(jnp.asarray(bias), x.ndim)

    def forward(self, z: Float[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps z to x; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        left, right, log_diagonal, bias = self._factors(z)
        x = (z @ right.T) @ left.T + bias
        return x, jnp.broadcast_to(jnp.sum(log_diagonal), x.shape[:-1])

    def inverse(self, x: Float[AnyArray, "*B D"], condition: AnyArray | None = None):
        """Maps x to z; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        left, right, log_diagonal, bias = self._factors(x)
        rows = (x - bias).reshape(-1, self.features).T
        rows = solve_triangular(left, rows, lower=True, unit_diagonal=True)
        z = solve_triangular(right, rows, lower=False).T.reshape(x.shape)
        return z, jnp.broadcast_to(-jnp.sum(log_diagonal), x.shape[:-1])
