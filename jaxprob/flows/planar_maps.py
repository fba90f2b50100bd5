"""The planar transform: space is stretched across one plane.

    x = z + v tanh(w.z + b)
    v = u + (m(w.u) - w.u) w / |w|^2,   m(a) = softplus(a + log(e - 1)) - 1 > -1
    log |det dx/dz| = log(1 + (1 - tanh^2(w.z + b)) w.v)

w.v = m(w.u) > -1 makes it invertible. The paper's m lacks the shift, which makes m(0) = 0 here, so
that u = 0 is the identity. The inverse is a root in one dimension: with a = w.z,

    w.x = a + w.v tanh(a + b)

rises with a, and w.x - a lies between -|w.v| and |w.v|; bisection finds it, derivatives follow from
the implicit function theorem.

Twin: `torch_ref/flows/planar_maps.py`. Source: Rezende & Mohamed, "Variational inference with
normalizing flows" (2015), eqs. 10-12 and appendix A.1.
"""

import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.nn import MLP
from jaxprob.nn.initializers import param_dtype
from jaxprob.types import AnyArray, Array

__all__ = ["Planar"]

SHIFT = math.log(math.expm1(1.0))


class Planar(nn.Module):
    """One planar map; its parameters may depend on a condition.

    Attributes:
      features: Size D of an event.
      hidden: Widths of the network from a condition to what it adds to w, u and b.
      activation: Elementwise function between its layers.
    """

    features: int
    hidden: Sequence[int] = ()
    activation: Callable[[Array], Array] = nn.silu

    @nn.compact
    def _parameters(
        self, x: AnyArray, condition: AnyArray | None
    ) -> tuple[Array, Array, Array, Array]:
        """W and v `[*B, D]`, b and 1 + w.v (> 0) `[*B]`."""
        size, dtype = self.features, param_dtype(x)
        w = self.param("w", nn.initializers.normal(size**-0.5), (size,), dtype)
        u = self.param("u", nn.initializers.zeros, (size,), dtype)
        b = self.param("b", nn.initializers.zeros, (1,), dtype)
        joined = jnp.broadcast_to(jnp.concatenate([w, u, b]), (*x.shape[:-1], 2 * size + 1))
        if condition is None and self.has_variable("params", "out"):
            raise ValueError(
                "Planar: its parameters were made for a condition and none was given. Pass "
                "condition=[*B, C]."
            )
        if condition is not None:
            h = MLP(self.hidden, self.activation, name="conditioner")(condition)
            out = nn.Dense(2 * size + 1, kernel_init=nn.initializers.zeros, name="out")
            joined = joined + out(h)
        w, u, b = joined[..., :size], joined[..., size:-1], joined[..., -1]
        product = jnp.sum(w * u, axis=-1)
        rise = jax.nn.softplus(product + SHIFT)
        square = jnp.sum(w**2, axis=-1)
        # w = 0 is a translation by u tanh(b): then rise is 1 and the division is by no zero.
        excess = (rise - 1.0 - product) / jnp.where(square > 0, square, 1.0)
        return w, u + excess[..., None] * w, b, rise

    def forward(
        self, z: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps z to x; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        w, v, b, rise = self._parameters(z, condition)
        a = jnp.sum(w * z, axis=-1)
        return z + v * jnp.tanh(a + b)[..., None], _log_det(a + b, rise)

    def inverse(
        self, x: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps x to z by bisection; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        w, v, b, rise = self._parameters(x, condition)
        a = _root(jnp.sum(w * x, axis=-1), rise - 1.0, b)
        return x - v * jnp.tanh(a + b)[..., None], -_log_det(a + b, rise)


def _log_det(a: Array, rise: Array) -> Array:
    """log(1 + (1 - tanh^2 a) (rise - 1)), of two positive terms."""
    square = jnp.tanh(a) ** 2
    return jnp.log(square + (1.0 - square) * rise)


def _root(y: Array, stretch: Array, b: Array) -> Array:
    """The a with a + stretch tanh(a + b) = y, to the last bits."""

    def excess(a: Array) -> Array:
        return a + stretch * jnp.tanh(a + b) - y

    def solve(function: Callable[[Array], Array], start: Array) -> Array:
        del start

        def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = 0.5 * low + 0.5 * high
            above = function(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        ends = (y - jnp.abs(stretch), y + jnp.abs(stretch))
        low, high = jax.lax.fori_loop(0, jnp.finfo(y.dtype).nmant + 8, halve, ends)
        return jax.lax.stop_gradient(0.5 * low + 0.5 * high)

    def solve_tangent(linear: Callable[[Array], Array], right: Array) -> Array:
        return right / linear(jnp.ones_like(right))

    return jax.lax.custom_root(excess, jnp.zeros_like(y), solve, solve_tangent)
