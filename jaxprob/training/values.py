"""What the values of the data must be: finite where they are observed, and what JAX can hold.

JAX holds integers of 32 bits and floats of 32 bits unless `jax.enable_x64` is on. A conversion
would wrap 5000000000 to 705032704 and turn 1e300 into infinity without a word.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["require_finite", "require_representable", "seen_values"]


def require_representable(owner: str, name: str, value: Any) -> None:
    """Raises a `ValueError` for numbers that the dtype which JAX will give them cannot hold.

    Args:
      owner: Who asks, for messages.
      name: What holds the numbers.
      value: An array; a traced one has its dtype already.
    """
    if not isinstance(value, (np.ndarray, np.generic, jax.Array)):
        value = np.asarray(value)
    if isinstance(value, jax.core.Tracer) or not jnp.issubdtype(value.dtype, jnp.number):
        return
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    if dtype == value.dtype:
        return
    array, fix = np.asarray(value), "Rescale them"
    if jnp.issubdtype(dtype, jnp.integer):
        bounds, fix = jnp.iinfo(dtype), "Give floats, as in x.astype(np.float32)"
        bad = (array < bounds.min) | (array > bounds.max)
    else:
        with np.errstate(over="ignore"):
            bad = np.isfinite(array) & ~np.isfinite(array.astype(dtype))
    if not bad.any():
        return
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    raise ValueError(
        f"{owner}: {name} holds {int(bad.sum())} values that {dtype} cannot represent, the first "
        f"at index {index}: {array[index]}. JAX computes in {dtype} here. {fix}, or turn on "
        'jax.config.update("jax_enable_x64", True).'
    )


def require_finite(owner: str, name: str, array: Any, seen: np.ndarray | None) -> None:
    """Raises a `ValueError` for values that are observed and not finite.

    Args:
      owner: Who asks, for messages.
      name: What holds the values.
      array: The values.
      seen: Where they are observed, from `seen_values`; None for everywhere.
    """
    values = np.asarray(array)
    bad = ~np.isfinite(values) if seen is None else ~np.isfinite(values) & seen
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{owner}: {name} must be finite; {int(bad.sum())} of {bad.size} values are not, the "
            f"first at index {first}: {values[first]}. Drop those rows or impute the values."
        )


def seen_values(
    arrays: Mapping[str, Any], name: str, per_member: tuple[str, ...] = ()
) -> np.ndarray | None:
    """Returns where a loss reads `arrays[name]`, of a shape that broadcasts with it, or None.

    A mask of its shape (f"{name}_observed", or "mask") says what was observed, and "lengths" where
    sequences `[N, T, ...]` end; whatever stands elsewhere adds nothing to a loss.

    Args:
      arrays: The data.
      name: The entry.
      per_member: Entries that lead with M.
    """
    array = arrays[name]
    own = f"{name}_observed"
    seen = _aligned(arrays, own if own in arrays else "mask", name, per_member)
    rows = array.shape[int(name in per_member) :]
    if seen is not None and seen.shape[max(seen.ndim - len(rows), 0) :] != rows:
        seen = None  # it speaks of another entry
    valid = _valid_steps(arrays, name, per_member)
    if seen is None or valid is None:
        return valid if seen is None else seen.astype(bool)
    return seen.astype(bool) & valid


def _valid_steps(
    arrays: Mapping[str, Any], name: str, per_member: tuple[str, ...]
) -> np.ndarray | None:
    axis = 1 + int(name in per_member)
    lengths = _aligned(arrays, "lengths", name, per_member)
    if lengths is None or lengths.ndim != axis or arrays[name].ndim <= axis or name == "condition":
        return None
    steps = arrays[name].shape[axis]
    x = arrays.get("x")
    if x is not None and x.ndim > 1 + int("x" in per_member):
        if steps != x.shape[1 + int("x" in per_member)]:
            return None  # no sequence: its second axis is not time
    valid = np.arange(steps) < np.asarray(lengths)[..., None]
    return valid.reshape(*valid.shape, *[1] * (arrays[name].ndim - valid.ndim))


def _aligned(
    arrays: Mapping[str, Any], entry: str, name: str, per_member: tuple[str, ...]
) -> np.ndarray | None:
    """An entry with the member axis that another one has: a shared one holds for all members."""
    if entry not in arrays or entry == name:
        return None
    value, own, others = np.asarray(arrays[entry]), entry in per_member, name in per_member
    if own and not others:  # what some member reads must be finite
        return value.max(axis=0)
    return value[None] if others and not own else value
