"""Moves of numbers outside of `jit` without a program for each shape.

JAX compiles even `jnp.zeros(3)`, `x[None]` or `jnp.asarray(numpy_array)`, once for each shape and
dtype: 20 ms each, and a quarter of all programs of the tests. What only moves numbers, or widens
them, is done by NumPy here, with the same bits; `tests/test_support.py` compares them. Arithmetic
stays XLA's, and so does everything under `jit`, on a mesh, or of weak type.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax._src.lax.lax import stage_p
from jax.extend.core import primitives

__all__ = ["move_without_programs"]


def move_without_programs() -> None:
    """Replaces the eager form of the primitives that move numbers; a second call does nothing."""
    for primitive, function in MOVES:
        if getattr(primitive.impl, "__wrapped__", None) is not _by_numpy:
            primitive.def_impl(_by_numpy(primitive.impl, function))


def _by_numpy(compiled: Callable, function: Callable) -> Callable:
    @functools.wraps(_by_numpy)  # by which a second call knows it
    def impl(*args: Any, **params: Any) -> Any:
        if params.get("weak_type") or params.get("sharding") or not all(map(_is_plain, args)):
            return compiled(*args, **params)
        found = function(*map(np.asarray, args), **params)
        return compiled(*args, **params) if found is None else jax.device_put(found)

    return impl


def _is_plain(array: Any) -> bool:
    if isinstance(array, jax.Array):
        extended = jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)
        return not (extended or array.aval.weak_type or array.committed)
    return isinstance(array, np.ndarray | np.generic)


def _broadcast(x, *dynamic, shape, broadcast_dimensions, sharding):
    if dynamic:
        return None
    spread = [1] * len(shape)
    for size, place in zip(x.shape, broadcast_dimensions, strict=True):
        spread[place] = size
    return np.broadcast_to(x.reshape(spread), shape).copy()


def _widen(x, *, new_dtype, weak_type, sharding):
    """Only conversions that lose nothing: rounding is XLA's, and it takes subnormals for 0."""
    new_dtype = np.dtype(new_dtype)
    known = x.dtype.kind in "biuf" and new_dtype.kind in "biuf"
    if not known or not np.can_cast(x.dtype, new_dtype, "safe"):
        return None
    if x.dtype.kind == "f" and ((x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny)).any():
        return None
    return x.astype(new_dtype)


def _reshape(x, *dynamic, new_sizes, dimensions, sharding):
    return None if dynamic or dimensions else x.reshape(new_sizes).copy()


def _iota(*dynamic, dtype, shape, dimension, sharding):
    if dynamic or np.dtype(dtype).kind not in "iuf":
        return None
    column = np.arange(shape[dimension]).astype(dtype)
    column = column.reshape([-1 if i == dimension else 1 for i in range(len(shape))])
    return np.broadcast_to(column, shape).copy()


def _slice(x, *, start_indices, limit_indices, strides):
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))].copy()


def _dynamic_slice(x, *starts, slice_sizes):
    if len(starts) != x.ndim:
        return None
    places = [
        min(max(int(start), 0), size - length)  # XLA keeps a slice within the array
        for start, size, length in zip(starts, x.shape, slice_sizes, strict=True)
    ]
    return x[tuple(slice(i, i + n) for i, n in zip(places, slice_sizes, strict=True))].copy()


MOVES = [
    (primitives.broadcast_in_dim_p, _broadcast),
    (primitives.convert_element_type_p, _widen),
    (primitives.squeeze_p, lambda x, *, dimensions: np.squeeze(x, tuple(dimensions)).copy()),
    (primitives.reshape_p, _reshape),
    (primitives.transpose_p, lambda x, *, permutation: np.transpose(x, permutation).copy()),
    (primitives.concatenate_p, lambda *x, dimension: np.concatenate(x, dimension)),
    (primitives.copy_p, lambda x: x.copy()),
    (primitives.iota_p, _iota),
    (primitives.rev_p, lambda x, *, dimensions: np.flip(x, dimensions).copy()),
    (primitives.slice_p, _slice),
    (primitives.dynamic_slice_p, _dynamic_slice),
    (stage_p, lambda x: x.copy()),
]
