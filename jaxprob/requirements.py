"""What an argument must be, one line where it is used.

    require_count("sample", num=num)
    require_in("MCDropout", "[0, 1)", "None takes the rates of the layers.", rate=rate)

Each message names the owner, the argument, what it must be, what was got, and the fix where one is
given. None passes, for an argument that may be left out, and so do a schedule and a number inside
of `jit` or `vmap`: they have no value yet.

Twin: none; PyTorch checks its own arguments.
"""

import dataclasses
import functools
import numbers
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

__all__ = [
    "by_name",
    "require_choice",
    "require_count",
    "require_in",
    "require_non_negative",
    "require_positive",
    "require_rows",
]


_Class = TypeVar("_Class", bound=type)


def by_name(fix: str = "") -> Any:
    """Makes the decorator of a dataclass that explains its `dataclasses.KW_ONLY`.

    What Python would call 3 positional arguments given for 2 is a `ValueError` with the fix.

    Args:
      fix: What to write instead, where that is not plain from the names.
    """

    def decorate(cls: _Class) -> _Class:
        made = cls.__init__
        fields = [f.name for f in dataclasses.fields(cls) if f.init]
        free = [f.name for f in dataclasses.fields(cls) if f.init and not f.kw_only]
        named = [name for name in fields if name not in (*free, "parent", "name")]

        @functools.wraps(made)
        def __init__(self, *args: Any, **options: Any) -> None:
            if len(args) > len(free):
                raise ValueError(
                    f"{cls.__name__}: {', '.join(named)} must be given by name; got "
                    f"{len(args)} arguments by position, {args!r}. {fix}".rstrip()
                )
            made(self, *args, **options)

        cls.__init__ = __init__
        return cls

    return decorate


def require_count(owner: str, fix: str = "", *, least: int = 1, **counts: Any) -> None:
    """Raises a `ValueError` for what is not a whole number of at least `least`.

    True is none, and neither is 2.0: a count that was computed is rounded by whoever computed it.
    Nor is an array, which nothing that is compiled could depend on: write `int(n)`.
    """
    for name, count in _given(counts):
        if not isinstance(count, numbers.Integral) or isinstance(count, bool):
            _refuse(owner, name, "be a whole number", repr(count), fix)
        if int(count) < least:
            _refuse(owner, name, f"be at least {least}", count, fix)


def require_positive(owner: str, fix: str = "", **values: Any) -> None:
    """Raises a `ValueError` for a number, or an array with one, not positive and finite."""
    for name, number in _given(values):
        array = np.asarray(number)
        if not ((array > 0) & np.isfinite(array)).all():
            _refuse(owner, name, "be positive and finite", number, fix)


def require_non_negative(owner: str, fix: str = "", **values: Any) -> None:
    """Raises a `ValueError` for a negative number, or one that is none."""
    for name, number in _given(values):
        if not number >= 0:
            _refuse(owner, name, "not be negative", number, fix)


def require_in(owner: str, interval: str, fix: str = "", **values: Any) -> None:
    """Raises a `ValueError` for a number outside of an interval.

    Args:
      owner: Who asks.
      interval: As it is written, "[0, 1)": a bracket where the end belongs to it.
      fix: What to write instead.
      **values: By name.
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, number in _given(values):
        above = number >= low if interval[0] == "[" else number > low
        below = number <= high if interval[-1] == "]" else number < high
        if not (above and below):
            _refuse(owner, name, f"lie in {interval}", number, fix)


def require_choice(owner: str, choices: Collection[str], fix: str = "", **values: Any) -> None:
    """Raises a `ValueError` for a value that is none of the choices."""
    for name, value in _given(values):
        if value not in choices:
            _refuse(owner, name, f"be one of {', '.join(map(str, choices))}", repr(value), fix)


def require_rows(owner: str, arrays: Mapping[str, Any], fix: str = "") -> int:
    """Returns the number of rows that all arrays have.

    Raises:
      ValueError: No dict of arrays, none of their rows, or arrays of different leading axes.
    """
    if not isinstance(arrays, Mapping):
        raise ValueError(
            f'{owner} must be a dict of arrays, such as {{"x": x, "y": y}}; got '
            f"{type(arrays).__name__}. {fix}".rstrip()
        )
    sizes = {name: np.shape(value)[:1] for name, value in arrays.items()}
    if len(set(sizes.values())) != 1 or () in sizes.values() or (0,) in sizes.values():
        raise ValueError(
            f"{owner} must be arrays with one leading axis of rows, at least one row; "
            f"got leading sizes {sizes}. {fix}".rstrip()
        )
    return next(iter(sizes.values()))[0]


def _given(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    unknown = (type(None), jax.core.Tracer)  # inside of jit a number has no value yet
    return [(n, v) for n, v in values.items() if not isinstance(v, unknown) and not callable(v)]


def _refuse(owner: str, name: str, must: str, got: Any, fix: str) -> None:
    raise ValueError(f"{owner}: {name} must {must}; got {got}. {fix}".rstrip())
