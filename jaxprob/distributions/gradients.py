"""How densities and draws are computed fast: gradients in closed form, and loops that vectorise.

Autodiff keeps every intermediate number of a density in memory. The gradients of most densities are
shorter than the densities themselves, d log Gamma(x; a, b) / da = log(b x) - psi(a) for one, and
computed from the arguments alone they run in a single loop.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxprob.types import Array, Key

__all__ = ["by_column", "normal_noise", "with_gradients"]

SHORT = 16


def with_gradients(
    value: Callable[..., Array],
    gradients: Callable[..., tuple[Array, ...]],
    event_ndims: tuple[int, ...] | None = None,
) -> Callable[..., Array]:
    """Gives a function of numbers, or of the vectors in the last axes, its partial derivatives.

    Args:
      value: Arrays that broadcast against each other -> array without the event axes.
      gradients: The same arrays -> partial derivative towards each. They are differentiable
        themselves, so that second derivatives follow by autodiff.
      event_ndims: Trailing axes of each argument that make one event; none by default.

    Returns:
      A function like `value`, differentiable in both modes.
    """
    function = jax.custom_jvp(functools.wraps(value)(lambda *arguments: value(*arguments)))

    def rule(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        out = function(*primals)
        total = jnp.zeros_like(out)
        depths = event_ndims or (0,) * len(primals)
        for gradient, tangent, depth in zip(gradients(*primals), tangents, depths, strict=True):
            if not isinstance(tangent, SymbolicZero):
                total = total + jnp.sum(gradient * tangent, axis=tuple(range(-depth, 0)))
        return out, total

    function.defjvp(rule, symbolic_zeros=True)
    return function


def by_column(function: Callable[..., Array], *arrays: Array) -> Array:
    """Applies an elementwise function to `[..., K]` arrays, one column after the other.

    XLA's loop over a short last axis does not vectorise a long formula: for K = 10 this takes a
    sixth of the time. Long axes go as they are.
    """
    size = max(array.shape[-1] for array in arrays)
    if size > SHORT:
        return function(*arrays)
    wide = [jnp.broadcast_to(a, (*a.shape[:-1], size)) for a in arrays]
    return jnp.stack([function(*(a[..., k] for a in wide)) for k in range(size)], axis=-1)


@functools.partial(jax.jit, static_argnums=(1, 2))  # else each eager draw compiles its loop
def normal_noise(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """Returns `jax.random.normal(key, shape, dtype)`, drawn in one flat loop.

    A flat draw that is reshaped becomes the slow loop over a short last axis: XLA fuses the reshape
    into it. No fusion crosses the border of another loop.
    """
    size = math.prod(shape)
    if not 1 < shape[-1] <= SHORT or size == shape[-1]:
        return jax.random.normal(key, shape, dtype)
    # A loop of one pass that must look as if it took more.
    once = jax.lax.optimization_barrier(jnp.ones((), jnp.int32))
    flat = jax.lax.fori_loop(
        0, once, lambda *_: jax.random.normal(key, (size,), dtype), jnp.zeros(size, dtype)
    )
    return flat.reshape(shape)
