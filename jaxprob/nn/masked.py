"""Dense layers with a mask, and the autoregressive network made of them.

    y = x (W * M)^T + b                                            M_ij in {0, 1}
    out_d = f_d(x_e : e before d in the order)                     d = 1..D

A unit carries a degree: the k-th input of the order has k, a hidden unit between 0 and D - 1, an
output that of its input. A unit is connected to those of the layer below whose degree is not higher
than its own; an output to those whose degree is lower. So no path leads from an input to its own
output or to an earlier one.

Twin: `torch_ref/nn/masked.py`. Source: Germain et al., "MADE: masked autoencoder for distribution
estimation" (2015), eqs. 8-14.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Bool, Float

from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import Initializer, fan_in_uniform, param_dtype
from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array

__all__ = ["MADE", "MaskedDense", "made_masks"]


class MaskedDense(nn.Module):
    """A dense layer in PyTorch's layout, parameters `weight` `[out, in]` and `bias` `[out]`.

    The mask is an argument and no parameter: a constant of the program, neither trained nor saved.

    Attributes:
      features: Size of the output.
      weight_init: Initialiser of the weight; None for PyTorch's U(+-1/sqrt(in)).
      bias_init: Initialiser of the bias, likewise.
    """

    features: int
    weight_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B I"], mask: Bool[AnyArray, "O I"]) -> Array:
        """Maps `[*B, in]` to `[*B, features]`; a connection is there where the mask is True."""
        init, dtype = fan_in_uniform(x.shape[-1]), param_dtype(x)
        shape = (self.features, x.shape[-1])
        weight = self.param("weight", self.weight_init or init, shape, dtype)
        bias = self.param("bias", self.bias_init or init, (self.features,), dtype)
        x, weight, bias = promote_dtype(x, weight, bias)
        return x @ (weight * jnp.asarray(mask, weight.dtype)).T + align(bias, x.ndim)


class MADE(nn.Module):
    """An autoregressive network: P numbers for each input, made of the inputs before it alone.

    They are parameters of p(x_d | x_<d), for a flow or for a density of discrete data.

    Attributes:
      features: Number of inputs D.
      hidden: Width of each hidden layer, best at least D.
      num_outputs: Numbers P for each input.
      order: Indices of the inputs, the first of the chain first; None for 0, 1, ..., D - 1.
      activation: Elementwise function between the layers.
      zero_output: True to start with outputs 0.
    """

    features: int
    hidden: Sequence[int] = (64, 64)
    num_outputs: int = 1
    order: Sequence[int] | None = None
    activation: Callable[[Array], Array] = nn.relu
    zero_output: bool = False

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "*B D"], condition: Float[AnyArray, "*B C"] | None = None
    ) -> Float[Array, "*B D P"]:
        """Maps inputs `[*B, D]` to `[*B, D, P]`.

        Args:
          x: Inputs.
          condition: What every output may see, `[*B, C]`.

        Raises:
          ValueError: Inputs of another size, or an order that is no permutation.
        """
        if x.shape[-1] != self.features:
            raise ValueError(
                f"MADE: x has {x.shape[-1]} features; expected features={self.features}."
            )
        conditions = 0 if condition is None else condition.shape[-1]
        require_count("MADE", features=self.features, num_outputs=self.num_outputs)
        if np.ndim(self.hidden) != 1:
            raise ValueError(
                f"MADE: hidden must be the widths of the layers, as (64, 64); got {self.hidden!r}."
            )
        masks = made_masks(self.features, self.hidden, self.num_outputs, self.order, conditions)
        h = x if condition is None else jnp.concatenate([x, condition], axis=-1)
        for i, width in enumerate(self.hidden):
            layer = MaskedDense(width, name=f"hidden_{i}")
            h = self.activation(layer(h, mask=masks[i]))
        zeros = nn.initializers.zeros if self.zero_output else None
        layer = MaskedDense(self.features * self.num_outputs, zeros, zeros, name="out")
        out = layer(h, mask=masks[-1])
        return out.reshape(*x.shape, self.num_outputs)


def made_masks(
    features: int,
    hidden: Sequence[int],
    num_outputs: int = 1,
    order: Sequence[int] | None = None,
    conditions: int = 0,
) -> list[np.ndarray]:
    """Returns the masks `[out, in]` of the layers of a `MADE`, the last for the outputs.

    Hidden degrees are spread evenly, lowest first. Without a condition none is 0: such a unit would
    see nothing.

    Args:
      features: Number of inputs D.
      hidden: Widths of the hidden layers.
      num_outputs: Outputs P for each input; those of one input stand together.
      order: Indices of the inputs in their order.
      conditions: Further inputs that everyone may see, after the others.

    Raises:
      ValueError: An order that is no permutation of 0..D-1.
    """
    order = range(features) if order is None else order
    if sorted(order) != list(range(features)):
        raise ValueError(
            f"MADE: order must list each of 0..{features - 1} once; got {tuple(order)}."
        )
    degrees = np.zeros(features, int)
    degrees[list(order)] = np.arange(1, features + 1)
    lowest = 0 if conditions else min(1, features - 1)
    below = np.concatenate([degrees, np.zeros(conditions, int)])
    masks = []
    for width in hidden:
        here = lowest + np.arange(width) * (features - lowest) // width
        masks.append(here[:, None] >= below[None, :])
        below = here
    masks.append(np.repeat(degrees, num_outputs)[:, None] > below[None, :])
    return masks
