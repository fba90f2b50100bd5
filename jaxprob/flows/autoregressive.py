"""The masked affine autoregressive transform.

    z_d = (x_d - m_d) e^{-s_d},   (m_d, s_d) = MADE(x_<d, condition)     log |det dx/dz| = sum_d s_d

From x to z it is one pass: fast densities, the masked autoregressive flow (MAF). From z to x each
element waits for those before it: D passes. `Inverse` of it is the inverse autoregressive flow
(IAF): fast sampling, and fast densities of its own samples.

Twin: `torch_ref/flows/autoregressive.py`. Source: Papamakarios, Pavlakou & Murray, "Masked
autoregressive flow for density estimation" (2017), eqs. 2-6; Kingma et al., "Improving variational
inference with inverse autoregressive flow" (2016), eqs. 7-10.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxprob.flows.couplings import SCALE_BOUND
from jaxprob.heads.links import bounded
from jaxprob.nn import MADE
from jaxprob.types import AnyArray, Array

__all__ = ["MaskedAffineAutoregressive"]


class MaskedAffineAutoregressive(nn.Module):
    """A stretch and a shift of each element, given by the elements before it.

    Attributes:
      features: Size D of an event.
      hidden: Widths of the masked network.
      order: Indices of the elements, the first of the chain first; None for 0, 1, ..., D - 1.
      activation: Elementwise function between its layers.
      scale_bound: Bound on the log-scale.
    """

    features: int
    hidden: Sequence[int] = (64, 64)
    order: Sequence[int] | None = None
    activation: Callable[[Array], Array] = nn.silu
    scale_bound: float = SCALE_BOUND

    def setup(self) -> None:
        """Makes the masked network."""
        self.made = MADE(
            self.features, self.hidden, 2, self.order, self.activation, zero_output=True
        )

    def inverse(
        self, x: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps x to z in one pass; returns z `[*B, D]` and log |det dz/dx| `[*B]`."""
        shift, log_scale = self._parameters(self.made(x, condition))
        return (x - shift) * jnp.exp(-log_scale), -jnp.sum(log_scale, axis=-1)

    def forward(
        self, z: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> tuple[Array, Array]:
        """Maps z to x in D passes; returns x `[*B, D]` and log |det dx/dz| `[*B]`."""
        z = jnp.asarray(z)
        if self.is_initializing():
            self.made(z, condition)  # a scan cannot make parameters
        made, variables = self.made.unbind()
        order = range(self.features) if self.order is None else self.order
        # Elements that are not known yet stay 0; each step adds one.
        turns = jnp.asarray(np.eye(self.features, dtype=bool)[list(order)])

        def step(carry: tuple[Array, Array], turn: Array) -> tuple[tuple[Array, Array], None]:
            x, log_det = carry
            shift, log_scale = self._parameters(made.apply(variables, x, condition))
            turn = jnp.broadcast_to(turn.reshape((1,) * (z.ndim - 1) + (-1,)), z.shape)
            x = jnp.where(turn, z * jnp.exp(log_scale) + shift, x)
            return (x, log_det + jnp.sum(jnp.where(turn, log_scale, 0.0), axis=-1)), None

        given = () if condition is None else (condition,)
        dtype = jnp.result_type(z, *given, *jax.tree.leaves(variables))  # that of a step's results
        start = (jnp.zeros(z.shape, dtype), jnp.zeros(z.shape[:-1], dtype))
        (x, log_det), _ = jax.lax.scan(step, start, turns)
        return x, log_det

    def _parameters(self, raw: Array) -> tuple[Array, Array]:
        return raw[..., 0], bounded(raw[..., 1], self.scale_bound)
