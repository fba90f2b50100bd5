"""The distributions that PyTorch draws its first weights from.

    fan_in_uniform    U(-b, b),  b = 1 / sqrt(fan_in)        Linear, Conv; RNNs, with H
    xavier_uniform    U(-b, b),  b = sqrt(6 / (out + in))    the stacked projection of attention
    standard_normal   N(0, 1)                                Embedding

Linen's own layers draw others: truncated LeCun normals for kernels, zeros for biases.

Twin: `torch_ref/nn/initializers.py`. Sources: He et al., "Delving deep into rectifiers" (2015), as
PyTorch uses it with a = sqrt(5); Glorot & Bengio, "Understanding the difficulty of training deep
feedforward neural networks" (2010), equation 16.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.types import AnyArray, Array, Key

__all__ = ["Initializer", "fan_in_uniform", "param_dtype", "standard_normal", "xavier_uniform"]


Initializer = Callable[..., Array]
"""Draws a parameter: `init(key, shape, dtype)`, as those of `jax.nn.initializers` do."""


def fan_in_uniform(fan_in: int) -> Initializer:
    """Makes the initialiser of weights and biases alike.

    Args:
      fan_in: Inputs of one output: the size of `weight[0]`. The initialiser of a bias cannot see
        it, which is why it is an argument.

    Returns:
      Initialiser of U(-b, b) with b = 1 / sqrt(fan_in), standard deviation b / sqrt(3).
    """
    return _uniform(fan_in**-0.5)


def xavier_uniform(out_features: int, in_features: int) -> Initializer:
    """Makes the initialiser of U(-b, b) with b = sqrt(6 / (out_features + in_features))."""
    return _uniform((6 / (out_features + in_features)) ** 0.5)


def standard_normal() -> Initializer:
    """Makes the initialiser of N(0, 1)."""
    return jax.nn.initializers.normal(1.0)


def param_dtype(x: AnyArray) -> Any:
    """Returns the dtype in which a layer that is initialised on `x` draws its parameters.

    Float64 for float64 inputs, else float32: weights stay in float32 where the activations are
    narrower.
    """
    return jnp.promote_types(x.dtype, jnp.float32)


def _uniform(bound: float) -> Initializer:
    def init(key: Key, shape: Sequence[int], dtype: Any = None) -> Array:
        dtype = dtype or jnp.result_type(float)
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
