"""Checks of parameters and events: clear errors instead of silent NaN or silent broadcasting.

Shapes and dtypes are checked always; at trace time that is free. Values are checked when they are
concrete (outside `jit`), and inside `jit` when the function is wrapped by `jaxprob.checked`, which
carries the failure out through `jax.experimental.checkify`. `jaxprob.unchecked()` turns the value
checks off.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jax.experimental.xla_metadata import set_xla_metadata

from jaxprob.distributions.constraints import Constraint, finite
from jaxprob.types import Array, ArrayLike, Numbers

__all__ = [
    "align",
    "as_array",
    "as_parameters",
    "check_event",
    "check_values",
    "checked",
    "draw_dtype",
    "shape_of",
    "unchecked",
]

# "eager": check concrete values; "checkify": stage checks of traced values too; "off": check none.
_mode: contextvars.ContextVar[str] = contextvars.ContextVar("jaxprob_checks", default="eager")


def draw_dtype(owner: str, dtype: Any) -> np.dtype:
    """Returns the dtype that a user asks draws in.

    Args:
      owner: Name of the distribution.
      dtype: What was given.

    Raises:
      ValueError: Not a dtype of real numbers, or of none.
    """
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    kinds = (jnp.bool_, jnp.integer, jnp.floating)
    if found is not None and any(jnp.issubdtype(found, kind) for kind in kinds):
        return found
    got = repr(dtype) if found is None else str(found)
    raise ValueError(
        f"{owner}: dtype must be one of real numbers, such as jnp.int32 or jnp.float32; got {got}."
    )


def checked(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the value checks of distributions work inside `jit`, `vmap`, `grad` and `scan`.

    Args:
      fn: A function, jitted or not. The result may be called eagerly or wrapped in `jax.jit`'s
        place: it compiles `fn` together with its checks.

    Returns:
      A function like `fn` that raises a `ValueError` where a check inside it failed.
    """

    # The metadata is part of JAX's trace-cache key. Without it an inner function that was jitted
    # and called before would be replayed from the cache without its checks, or with them later.
    def staged(*args, **kwargs):
        token = _mode.set("checkify")
        try:
            with set_xla_metadata(jaxprob_checked="1"):
                return fn(*args, **kwargs)
        finally:
            _mode.reset(token)

    compiled = jax.jit(checkify.checkify(staged, errors=checkify.user_checks))

    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        with set_xla_metadata(jaxprob_checked="1"):
            error, out = compiled(*args, **kwargs)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(error)):
            raise ValueError(
                "checked: its errors are raised outside of compiled code, so it must stand "
                "outermost: write checked(jax.vmap(fn)) rather than jax.vmap(checked(fn)), and so "
                "for jit and grad."
            )
        message = error.get()
        if message is not None:
            raise ValueError(message.removesuffix(" (`check` failed)"))
        return out

    return wrapper


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Turns the value checks off inside a `with` block; shapes and dtypes stay checked."""
    token = _mode.set("off")
    try:
        yield
    finally:
        _mode.reset(token)


def check_values(owner: str, name: str, value: ArrayLike, constraint: Constraint) -> None:
    """Raises (or stages, under `checked`) an error where `value` breaks `constraint`.

    Args:
      owner: Class that asks, for the message.
      name: Parameter or argument, for the message.
      value: Any shape.
      constraint: What each element must satisfy.

    Raises:
      ValueError: Naming the parameter, the constraint, how many values break it, the first bad
        index and value, and the fix.
    """
    mode = _mode.get()
    traced = any(isinstance(v, jax.core.Tracer) for v in (value, *constraint.bounds))
    if mode == "off" or (traced and mode != "checkify"):
        return
    if not traced:
        array = np.asarray(value)
        ok = np.asarray(constraint.test(array, np))
        if ok.all():
            return
        index = tuple(int(i) for i in np.argwhere(~ok)[0])
        array = np.broadcast_to(
            array, ok.shape + array.shape[array.ndim - constraint.event_ndims :]
        )
        raise ValueError(
            f"{owner}: {name} must be {constraint.name}; {int((~ok).sum())} of {ok.size} values "
            f"break this, the first at index {index}: {_shown(array[index])}. {constraint.fix}"
        )
    ok = constraint.check(value)
    bad = ~ok.reshape(-1)
    first = jnp.argmax(bad)
    value = jnp.asarray(value)
    event = value.shape[value.ndim - constraint.event_ndims :]
    value = jnp.broadcast_to(align(value, ok.ndim + len(event)), ok.shape + event)
    # A vmapped check reports its own member's index; checkify formats the numbers at run time.
    checkify.check(
        ~jnp.any(bad),
        f"{owner}: {name} must be {constraint.name}; {{count}} of {ok.size} values break this, "
        f"the first at flat index {{first}} of shape {ok.shape}: {{value}}. {constraint.fix}",
        count=jnp.sum(bad),
        first=first,
        value=value.reshape((ok.size, *event))[first],
    )


def as_parameters(
    owner: str,
    constraints: dict[str, Constraint],
    event_ndims: dict[str, int] | None = None,
    may_be_infinite: Collection[str] = ("logits",),
    **parameters: Numbers,
) -> tuple[Array, ...]:
    """Turns parameters into arrays of one float dtype and one batch shape, and checks them.

    Every parameter gets the full batch shape. That is what makes a distribution survive `vmap`:
    when all leaves carry all batch axes, a new leading axis means the same thing for each of them.

    Args:
      owner: Class name, for messages.
      constraints: Constraint of each parameter.
      event_ndims: Trailing axes of each parameter that do not broadcast (default 0).
      may_be_infinite: Parameters for which an infinite value has a meaning.
      **parameters: The values, in the order in which they are returned.

    Returns:
      The parameters as float arrays, batch axes broadcast against each other.

    Raises:
      ValueError: Wrong dtype, shapes that do not broadcast, or values outside the constraints.
    """
    event_ndims = event_ndims or {}
    parameters = {name: _from_list(owner, name, value) for name, value in parameters.items()}
    for name, value in parameters.items():
        dtype = jnp.result_type(value)
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise ValueError(
                f"{owner}: {name} must hold real numbers; got dtype {dtype}. "
                f"Convert it first, e.g. {name}.astype(jnp.float32)."
            )
    dtype = jnp.result_type(*parameters.values())
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    arrays = {name: jnp.asarray(value, dtype) for name, value in parameters.items()}
    for name, array in arrays.items():
        if array.ndim < event_ndims.get(name, 0):
            raise ValueError(
                f"{owner}: {name} must have at least {event_ndims[name]} axes; got shape "
                f"{array.shape}."
            )
    batch = {name: a.shape[: a.ndim - event_ndims.get(name, 0)] for name, a in arrays.items()}
    try:
        shape = np.broadcast_shapes(*batch.values())
    except ValueError:
        got = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(
            f"{owner}: the batch shapes of the parameters do not broadcast against each other: "
            f"{got}. Give them equal leading axes, or size 1 where they should be shared."
        ) from None
    for name, array in arrays.items():
        check_values(owner, name, array, constraints[name])
        if name not in may_be_infinite:
            check_values(owner, name, array, finite)
    return tuple(
        jnp.broadcast_to(a, shape + a.shape[a.ndim - event_ndims.get(name, 0) :])
        for name, a in arrays.items()
    )


def check_event(
    owner: str,
    value: Numbers,
    batch_shape: tuple[int, ...],
    event_shape: tuple[int, ...],
    support: Constraint | None = None,
) -> Array:
    """Checks that `value` is an event (or a stack of events) of a distribution.

    Args:
      owner: Class name, for messages.
      value: `[..., *batch, *event]`; batch axes may broadcast, event axes may not.
      batch_shape: Batch shape of the distribution.
      event_shape: Event shape of the distribution.
      support: Where events must lie; None skips the check of values.

    Returns:
      `value` as an array.

    Raises:
      ValueError: Naming both shapes and the likely fix.
    """
    array = as_array(_from_list(owner, "value", value))
    real = jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)
    if not real and not (array.dtype == bool and support is not None and support.discrete):
        raise ValueError(
            f"{owner}: value must hold real numbers; got dtype {array.dtype}. Convert it first, "
            "e.g. value.astype(jnp.float32)."
        )
    trailing = array.shape[array.ndim - len(event_shape) :] if event_shape else ()
    fits = array.ndim >= len(event_shape) and trailing == event_shape
    if fits:
        try:
            np.broadcast_shapes(array.shape[: array.ndim - len(event_shape)], batch_shape)
        except ValueError:
            fits = False
    if not fits:
        raise ValueError(
            f"{owner}: value has shape {array.shape}, but the distribution has batch_shape "
            f"{batch_shape} and event_shape {event_shape}, so a value of shape "
            f"{batch_shape + event_shape} is expected.{_shape_hint(array.shape, event_shape)}"
        )
    if support is not None:
        check_values(owner, "value", value, support)
    return array


def as_array(value: Any) -> Array:
    """Returns `jnp.asarray(value)`; integers too large for JAX's become floats instead of wrapping.

    Without float64 JAX keeps 32 bits of an integer: NumPy's 5e9 would turn into 705032704.
    """
    if isinstance(value, int | np.ndarray | np.integer) and not isinstance(value, bool):
        array = np.asarray(value)
        if array.size and (array.dtype == object or np.issubdtype(array.dtype, np.integer)):
            dtype = np.int64 if array.dtype == object else array.dtype
            limits = np.iinfo(jax.dtypes.canonicalize_dtype(dtype))
            if array.max() > limits.max or array.min() < limits.min:
                return jnp.asarray(array.astype(np.float64), jnp.result_type(float))
    return jnp.asarray(value)


def _from_list(owner: str, name: str, value: Any) -> ArrayLike:
    """Lists and tuples of numbers become arrays; what cannot is named."""
    if not isinstance(value, list | tuple):
        return value
    try:
        plain = not any(hasattr(leaf, "dtype") for leaf in jax.tree.leaves(value))
        return as_array(np.asarray(value)) if plain and value else jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner}: {name} must be an array or a list of numbers of equal lengths; got "
            f"{value!r} ({error})."
        ) from None


def shape_of(owner: str, name: str, value: Numbers) -> tuple[int, ...]:
    """Returns the shape of a parameter that may still be a list."""
    return jnp.shape(_from_list(owner, name, value))


def align(array: Array, ndim: int) -> Array:
    """Adds leading axes of size 1 up to `ndim` axes: explicit instead of silent rank promotion."""
    return array.reshape((1,) * max(ndim - array.ndim, 0) + array.shape)


def _shape_hint(shape: tuple[int, ...], event_shape: tuple[int, ...]) -> str:
    if event_shape == (1,) and shape[-1:] != (1,):
        return " Add the event axis: value[..., None]."
    return ""


def _shown(value: Any) -> str:
    return str(value.item()) if value.ndim == 0 else np.array2string(value, threshold=9)
