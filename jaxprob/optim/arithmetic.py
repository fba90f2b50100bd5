"""The arithmetic that all the transforms share, rounded as torch rounds it."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import as_scalar, is_zero
from jaxprob.types import Array, Params

__all__ = [
    "advance",
    "bias_correction",
    "combine",
    "decayed",
    "ema",
    "first_step",
    "leafwise",
    "like",
    "minus_log",
    "objective_gradient",
    "zeros_like",
]


def leafwise(function: Callable[..., tuple[Array, ...]], updates: Params, *states: Params) -> Any:
    """Applies a function of single tensors, which returns as many as it takes, to whole trees.

    Half-precision leaves are widened to float32 for the arithmetic (in bfloat16 the constant .999
    would itself round to 1) and rounded once; torch widens them too, but rounds after every
    operation. Results take the dtype of the last state.
    """
    structure = jax.tree.structure(updates)
    columns = [structure.flatten_up_to(tree) for tree in (updates, *states)]
    results = [_widened(function, *leaves) for leaves in zip(*columns, strict=True)]
    columns = zip(*results, strict=True) if results else columns
    return tuple(structure.unflatten(column) for column in columns)


def combine(function: Callable[..., Array], updates: Params, *trees: Params) -> Params:
    """Applies a function of single tensors that returns one, with the arithmetic of `leafwise`."""
    return jax.tree.map(lambda *x: _widened(lambda *y: (function(*y),), *x)[0], updates, *trees)


def _widened(function: Callable[..., tuple[Array, ...]], *tensors: Array) -> tuple[Array, ...]:
    tensors = tuple(jnp.asarray(tensor) for tensor in tensors)
    dtype = tensors[-1].dtype
    return tuple(out.astype(dtype) for out in function(*(_wide(x, tensors[-1]) for x in tensors)))


def like(value: float | Array, tensor: Array) -> float | Array:
    """Casts a traced scalar to the tensor's dtype, so that it cannot promote it."""
    return value.astype(tensor.dtype) if isinstance(value, jax.Array) else value


def ema(average: Array, value: Array, decay: float | Array) -> Array:
    """`decay * average + (1 - decay) * value`, by the two branches of `torch.lerp`."""
    if isinstance(decay, float) and decay <= 0.5:
        return value - decay * (value - average)
    return average + like(1 - decay, average) * (value - average)


def bias_correction(decay: float | Array, step: Array) -> Array:
    """`1 - decay**step` without cancellation.

    In float32 the obvious form is wrong by 1e-5 of its value for decay .999 and by 2e-4 for .9999,
    at every early step. Here `-expm1(step log(decay))`, the logarithm taken in double precision.
    """
    return -jnp.expm1(-minus_log(decay) * as_scalar(step))


def minus_log(decay: float | Array) -> float | Array:
    """`-log(decay)`, in double precision whatever JAX has enabled if the value is constant."""
    if isinstance(decay, float):
        return -math.log(decay) if decay > 0 else math.inf
    return -jnp.log(decay)


def first_step() -> Array:
    """The counter of a fresh state."""
    return jnp.zeros((), jnp.int32)


def advance(step: Array) -> Array:
    """The next value of the counter, which stops at the largest int32 instead of wrapping."""
    return jnp.asarray(optax.safe_increment(step))


def zeros_like(params: Params) -> Params:
    """Zero accumulators in the dtypes of the parameters.

    Raises:
        ValueError: if a leaf is complex; torch treats those as pairs of reals.
    """
    for path, leaf in jax.tree.leaves_with_path(params):
        if jnp.iscomplexobj(leaf):
            name, dtype = jax.tree_util.keystr(path), jnp.result_type(leaf)
            raise ValueError(
                f"params{name}: expected a real dtype, got {dtype}; "
                "optimise the real and imaginary parts as two leaves"
            )
    # An explicit dtype, since zeros like a weakly typed leaf would be weak and change in a scan.
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=jnp.result_type(leaf)), params)


def objective_gradient(
    updates: Params, params: Params | None, weight_decay: float | Array, maximize: bool
) -> Params:
    """The gradient of what is minimised: the sign turned for `maximize`, then the L2 term added.

    With an L2 term it is in at least float32, since it is rounded once, with the step.
    """
    if maximize:
        updates = jax.tree.map(jnp.negative, updates)
    if not is_zero(weight_decay):
        updates = jax.tree.map(
            lambda g, p: _wide(g, p) + like(weight_decay, _wide(p)) * _wide(p),
            updates,
            _required(params),
        )
    return updates


def decayed(
    function: Callable[..., tuple[Array, ...]],
    updates: Params,
    states: list[Params],
    params: Params | None,
    amount: float | Array,
) -> Any:
    """Is `leafwise` with decoupled decay, `params <- (1 - amount) params`, before the update.

    The factor is rounded to the parameter's dtype as torch rounds it. In float32 that costs up to
    3e-8 of the parameter at every step and always to the same side, so it is part of the result.
    """
    if is_zero(amount):
        return leafwise(function, updates, *states)

    def both(gradient: Array, *rest: Array) -> tuple[Array, ...]:
        *states, p = rest
        update, *states = function(gradient, *states)
        return update + (like(1 - amount, p) * p - p), *states, p

    *results, _ = leafwise(both, updates, *states, _required(params))
    return results


def _wide(tensor: Array, like_tensor: Array | None = None) -> Array:
    """A tensor in the dtype of another (default: its own), or in float32 if that is narrower."""
    dtype = jnp.result_type(tensor if like_tensor is None else like_tensor)
    return jnp.asarray(tensor, jnp.promote_types(dtype, jnp.float32))


def _required(params: Params | None) -> Params:
    if params is None:
        raise ValueError(
            "params: expected the current parameters, since weight_decay acts on them, got None; "
            "call `update(grads, state, params)`"
        )
    return params
