"""Couplings: some elements pass unchanged and say how each of the others is mapped.

    x_p = z_p,   x_m = g(z_m; net(z_p, condition))      log |det| = sum_m log g'

    affine    g(z) = z e^s + t        s bounded by tanh
    spline    g a monotone rational-quadratic spline, see `splines`

Both directions take one pass.

Twin: `torch_ref/flows/couplings.py`. Source: Dinh, Sohl-Dickstein & Bengio, "Density estimation
using real NVP" (2017), eqs. 4-8; Durkan et al., "Neural spline flows" (2019), section 3.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.flows.flow import require_size
from jaxprob.flows.splines import MIN_SHARE, num_parameters, rational_quadratic
from jaxprob.heads.links import bounded
from jaxprob.nn import MLP
from jaxprob.requirements import require_positive
from jaxprob.types import AnyArray, Array

__all__ = ["SCALE_BOUND", "AffineCoupling", "SplineCoupling", "alternating_mask"]

SCALE_BOUND = 3.0
"""Bound on the log-scale of one affine map: no layer stretches by more than e^3 = 20."""


def alternating_mask(features: int, layer: int) -> tuple[bool, ...]:
    """Returns the mask of a layer: the even elements pass in one layer, the odd ones in the next.

    A single element never passes: it is mapped by what the condition says.
    """
    return tuple(features > 1 and (d + layer) % 2 == 0 for d in range(features))


class _Coupling(nn.Module):
    """What both couplings share.

    Attributes:
      mask: For each element, True where it passes unchanged.
      hidden: Widths of the network that gives the parameters.
      activation: Elementwise function between its layers.
    """

    mask: Sequence[bool]
    hidden: Sequence[int] = (64, 64)
    activation: Callable[[Array], Array] = nn.silu

    def setup(self) -> None:
        """Makes the network."""
        mask = np.array(self.mask, bool)
        self.passing, self.moving = np.flatnonzero(mask), np.flatnonzero(~mask)
        if not self.moving.size:
            raise ValueError(
                f"{type(self).__name__}: mask must leave an element to be mapped; got "
                f"{tuple(self.mask)}. True means that an element passes unchanged."
            )
        self.conditioner = MLP(self.hidden, self.activation)
        # Zero outputs make the first map the identity.
        zeros = nn.initializers.zeros
        self.out = nn.Dense(self.moving.size * self._num_parameters(), kernel_init=zeros)

    def forward(
        self, z: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps z to x; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        return self._mapped(jnp.asarray(z), condition, inverse=False)

    def inverse(
        self, x: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps x to z; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        return self._mapped(jnp.asarray(x), condition, inverse=True)

    def _mapped(self, x: Array, condition: AnyArray | None, inverse: bool) -> tuple[Array, Array]:
        require_size(type(self).__name__, x, len(self.mask), "its mask")
        passed, moved = x[..., self.passing], x[..., self.moving]
        if not self.passing.size and condition is None:
            raise ValueError(
                f"{type(self).__name__}: the mask lets no element pass and there is no condition, "
                "so the map has nothing to depend on. Give a condition, or a True in the mask."
            )
        h = passed if condition is None else jnp.concatenate([passed, condition], axis=-1)
        raw = self.out(self.conditioner(h))
        raw = raw.reshape(*moved.shape, self._num_parameters())
        moved, log_slope = self._elements(moved, raw, inverse)
        joined = jnp.concatenate([passed, moved], axis=-1)
        places = np.argsort(np.concatenate([self.passing, self.moving]))
        return joined[..., places], jnp.sum(log_slope, axis=-1)

    def _num_parameters(self) -> int:
        raise NotImplementedError

    def _elements(self, value: Array, raw: Array, inverse: bool) -> tuple[Array, Array]:
        raise NotImplementedError


class AffineCoupling(_Coupling):
    """The coupling of real NVP: a stretch and a shift.

    Attributes:
      mask: For each element, True where it passes unchanged.
      hidden: Widths of the network that gives shift and log-scale.
      activation: Elementwise function between its layers.
      scale_bound: Bound on the log-scale.
    """

    scale_bound: float = SCALE_BOUND

    def _num_parameters(self) -> int:
        return 2

    def _elements(self, value: Array, raw: Array, inverse: bool) -> tuple[Array, Array]:
        shift, log_scale = raw[..., 0], bounded(raw[..., 1], self.scale_bound)
        if inverse:
            return (value - shift) * jnp.exp(-log_scale), -log_scale
        return value * jnp.exp(log_scale) + shift, log_scale


class SplineCoupling(_Coupling):
    """The coupling of neural spline flows; outside [-bound, bound] it is the identity.

    Attributes:
      mask: For each element, True where it passes unchanged.
      hidden: Widths of the network that gives the knots.
      activation: Elementwise function between its layers.
      bins: Number of bins K.
      bound: Half the width of the interval that is bent.
    """

    bins: int = 8
    bound: float = 5.0

    def _num_parameters(self) -> int:
        if not 2 <= self.bins < 1 / MIN_SHARE:
            raise ValueError(
                f"SplineCoupling: bins must be at least 2 and below {1 / MIN_SHARE:.0f}; got "
                f"{self.bins}."
            )
        require_positive("SplineCoupling", bound=self.bound)
        return num_parameters(self.bins)

    def _elements(self, value: Array, raw: Array, inverse: bool) -> tuple[Array, Array]:
        return rational_quadratic(value, raw, self.bound, inverse)
