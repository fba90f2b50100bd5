"""Training data: checked once at the door, shuffled and cut into batches on the device."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxprob.sharding import place, to_host
from jaxprob.training.values import require_finite, require_representable, seen_values
from jaxprob.types import Array, Batch, Key

__all__ = [
    "as_device_data",
    "epoch_order",
    "num_rows",
    "require_members",
    "require_some_weight",
    "rows_of_batch",
    "step_key",
    "to_device",
]


def as_device_data(
    data: Any,
    argument: str = "data",
    sharding: NamedSharding | None = None,
    per_member: tuple[str, ...] = (),
    owner: str = "fit",
) -> dict[str, Array]:
    """Checks a dict of arrays with leading axis N and puts it on the device.

    Args:
      data: Arrays that share the leading axis N >= 1, finite where they are observed.
      argument: Name of the argument, for messages.
      sharding: The devices on which they are wanted, or None for the default one.
      per_member: Entries that lead with M and have their rows on the second axis.
      owner: Who asks, for messages.

    Returns:
      The same arrays as JAX arrays.

    Raises:
      ValueError: Not a dict, no rows, different numbers of rows, values that are observed and not
        finite, or numbers that JAX cannot hold.
    """
    arrays = _checked_arrays(data, argument, per_member, owner)
    rows = {name: array.shape[int(name in per_member)] for name, array in arrays.items()}
    if len(set(rows.values())) != 1:
        listed = ", ".join(f'"{name}" {array.shape}' for name, array in arrays.items())
        raise ValueError(
            f"{owner}: the arrays of {argument} must share their leading axis; got {listed}. Each "
            "row of x needs its row of y."
        )
    for name, array in arrays.items():
        if jnp.issubdtype(array.dtype, jnp.inexact):
            seen = seen_values(arrays, name, per_member)
            require_finite(owner, f'{argument}["{name}"]', array, seen)
        require_representable(owner, f'{argument}["{name}"]', array)
    if sharding is not None:
        return {name: place(array, sharding) for name, array in canonical(arrays).items()}
    return {name: to_device(array) for name, array in canonical(arrays).items()}


def _checked_arrays(
    data: Any, argument: str, per_member: tuple[str, ...], owner: str
) -> dict[str, Any]:
    """The entries as arrays of numbers with rows."""
    if not isinstance(data, Mapping) or not data:
        raise ValueError(
            f"{owner}: {argument} must be a dict of arrays with a common leading axis, such as "
            f'{{"x": x, "y": y}}; got {type(data).__name__}.'
        )
    arrays = {}
    for name, value in data.items():
        array = np.asarray(value) if not isinstance(value, jax.Array) else value
        axis = int(name in per_member)
        if array.ndim <= axis:
            raise ValueError(
                f'{owner}: {argument}["{name}"] has shape {array.shape}; expected leading axes '
                "[M, N]."
                if axis
                else f'{owner}: {argument}["{name}"] is a single number; expected an array with '
                "leading axis N."
            )
        if array.shape[axis] == 0:
            raise ValueError(
                f'{owner}: {argument}["{name}"] has shape {array.shape}, no rows; expected at '
                "least one. Check how the data were read or split."
            )
        if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
            raise ValueError(
                f'{owner}: {argument}["{name}"] has dtype {array.dtype}; expected numbers. Encode '
                "text or objects first."
            )
        arrays[name] = array
    return arrays


def require_some_weight(owner: str, name: str, data: Batch) -> None:
    """Raises a `ValueError` for data of which no row counts."""
    if data.get("weight") is not None and not np.any(to_host(data["weight"])):
        use = "validate" if name == "validation" else "train"
        raise ValueError(
            f'{owner}: {name}["weight"] is 0 in all rows, so there is nothing to {use} on. '
            "Give some row a weight above 0."
        )


def require_members(batch: Batch, per_member: tuple[str, ...], members: int) -> None:
    """Raises a `ValueError` where an entry that is each member's own does not lead with M."""
    for name in per_member:
        shape = np.shape(batch[name]) if name in batch else None
        if shape is None or shape[:1] != (members,):
            raise ValueError(
                f'fit_ensemble: per_member names "{name}", so it must lead with M = {members}; got '
                f"{'no such entry' if shape is None else f'shape {shape}'}. Give [M, N, ...]."
            )


def to_device(array: Any) -> Array:
    """Returns an array on the default device, in memory of its own.

    `jnp.asarray` of a NumPy array compiles a program for each new shape (jax 0.10.2). `device_put`
    compiles nothing, but on a CPU it may share the memory that the caller goes on writing to.
    """
    return array if isinstance(array, jax.Array) else jax.device_put(np.array(array))


def canonical(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays in the dtypes that JAX will give them, which can hold them."""
    dtypes = {n: jax.dtypes.canonicalize_dtype(a.dtype) for n, a in arrays.items()}
    return {
        name: array if array.dtype == dtypes[name] else array.astype(dtypes[name])
        for name, array in arrays.items()
    }


def num_rows(data: Batch, per_member: tuple[str, ...] = ()) -> int:
    """Number of rows N, which stand on the second axis of what leads with M."""
    name, array = next(iter(data.items()))
    return array.shape[int(name in per_member)]


# The three functions below are the whole recipe of an epoch's randomness. The PyTorch twin repeats
# them, which is what makes its training runs comparable step by step.


def epoch_order(key: Key, epoch: Array | int, rows: int) -> Array:
    """Returns the order in which epoch number `epoch` visits the rows, `[N]`."""
    return permutation(jax.random.fold_in(jax.random.fold_in(key, epoch), 0), rows)


def permutation(key: Key, rows: int) -> Array:
    """Returns `jax.random.permutation(key, rows)`, to the bit, in a fifth of its time on a CPU.

    That sorts pairs of a random word and a place by the word; on a CPU, XLA sorts single numbers
    far faster than pairs, so the two are packed into one number of 64 bits.
    """
    # Words collide; as many rounds make the order uniform but for one part in rows ** 3.
    rounds = math.ceil(3 * math.log(max(1, rows)) / math.log(2**32 - 1))
    order = jnp.arange(rows)
    for _ in range(rounds):
        key, word_key = jax.random.split(key)
        word = jax.random.bits(word_key, (rows,), jnp.uint32)
        with jax.enable_x64(True):
            place = jnp.arange(rows, dtype=jnp.uint64)
            packed = jnp.sort((word.astype(jnp.uint64) << np.uint64(32)) | place)
            place = (packed & np.uint64(2**32 - 1)).astype(jnp.int32)
        order = order[place]
    return order


def step_key(key: Key, epoch: Array | int, batch: Array | int) -> Key:
    """Returns the key that the loss gets for batch number `batch` of an epoch."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, epoch), 1), batch)


def rows_of_batch(data: Batch, order: Array, start: Array | int, size: int) -> dict[str, Array]:
    """Gathers the rows `order[start : start + size]`, size being static."""
    rows = jax.lax.dynamic_slice_in_dim(order, start, size)
    return {name: array.at[rows].get(mode="promise_in_bounds") for name, array in data.items()}
