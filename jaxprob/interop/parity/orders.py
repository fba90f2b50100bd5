"""What two arrays have to do with each other that ought to be equal: order, scale, offset."""

from collections.abc import Iterator

import numpy as np

from jaxprob.interop.parity.outputs import relative_error

__all__ = ["rearranged"]

LARGEST_ROW = 50_000
"""Rows longer than this are not searched for a transposition."""

CLOSE = 1e-9


def rearranged(ours: np.ndarray, twin: np.ndarray) -> tuple[str, str] | None:
    """Returns (suspect, explanation) if one array is the other in another order or scale."""
    if ours.size != twin.size:
        return "shape", f"The arrays have shapes {ours.shape} in Flax and {twin.shape} in PyTorch."
    if not ours.size:
        return None
    if _equal(np.sort(ours, axis=None), np.sort(twin, axis=None)):
        return _order(ours, twin)
    if ours.shape == twin.shape:
        for array, side, other in ((ours, "Flax", "PyTorch"), (twin, "PyTorch", "Flax")):
            if not np.any(array):
                return "constant zero", f"The values are 0 everywhere in {side}, not in {other}."
        ratio = float(np.vdot(twin, ours) / np.vdot(twin, twin))
        if ratio and _equal(ours, ratio * twin):
            return _scale(ratio, ours.shape)
        difference = ours - twin
        if not np.all(np.isfinite(difference)):
            return None
        if np.ptp(difference) <= CLOSE * np.max(np.abs(difference)):
            return "offset", f"Flax's values are PyTorch's plus {difference.flat[0]:.6g}."
    return None


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return relative_error(a, b) <= CLOSE


def _scale(ratio: float, shape: tuple[int, ...]) -> tuple[str, str]:
    words = f"Flax's values are {ratio:.6g} times PyTorch's"
    counts = {*shape, int(np.prod(shape[:-1])), int(np.prod(shape[1:]))}
    for n in sorted(c for c in counts if c > 1):
        larger = max(ratio, 1 / ratio if ratio else 0.0)
        for of, what in ((n / (n - 1), "variance"), ((n / (n - 1)) ** 0.5, "deviation")):
            if abs(larger / of - 1) <= CLOSE:
                return (
                    "n or n - 1",
                    f"{words}: a {what} of {n} values is divided by n on one side and by n - 1 on "
                    "the other (torch's std and var take n - 1, jnp's n; ddof, correction).",
                )
    return "scale", f"{words}."


def _order(ours: np.ndarray, twin: np.ndarray) -> tuple[str, str]:
    if ours.shape == twin.shape:
        for suspect, words, made in _reordered(ours):
            if any(_equal(made, other) for other in _layouts(twin, ours.shape)):
                return suspect, words
    if ours.shape[:1] == twin.shape[:1]:
        a, b = (array.reshape(array.shape[0], -1) for array in (ours, twin))
        for p, q, r in _factors(a.shape[1]):
            for rows in (slice(1), slice(None)):
                if not _equal(_swapped(a[rows], p, q, r), b[rows]):
                    break
            else:
                if r == 1:
                    return (
                        "flatten order",
                        "Both sides hold the same numbers in another order: channels last in Flax, "
                        "first in PyTorch. Use jaxprob.nn.Flatten, or permute before flattening.",
                    )
                return (
                    "axis order",
                    f"Both sides hold the same numbers; before a reshape, axes of size {p} and {q} "
                    "are in another order (a transpose is missing on one side).",
                )
    return "order", "Both sides hold the same numbers in another order."


def _layouts(twin: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """The array, and with its channels moved: where all axes are as long, shapes do not tell."""
    if twin.ndim < 3:
        return [twin]
    moved = (twin, np.moveaxis(twin, 1, -1), np.moveaxis(twin, -1, 1))
    return [array for array in moved if array.shape == shape]


def _reordered(array: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    for axis in range(array.ndim):
        yield "reversed order", f"Axis {axis} runs backwards on one side.", np.flip(array, axis)
    width = array.shape[-1] if array.ndim else 0
    if array.ndim > 2 and width % 2 == 0:
        for half, words in ((slice(0, width // 2), "first"), (slice(width // 2, None), "second")):
            turned = array.copy()
            turned[..., half] = np.flip(array[..., half], 1)
            yield (
                "reversed order",
                f"The {words} half of the last axis runs backwards in time on one side: a reversed "
                "RNN whose outputs were not turned back (keep_order=True in Linen).",
                turned,
            )
    for axis in range(1, array.ndim):
        for at in range(1, array.shape[axis]):
            yield (
                "concatenation order",
                f"The parts that make axis {axis} are joined in another order (PyTorch's begins at "
                f"{at} of Flax's).",
                np.roll(array, -at, axis),
            )


def _factors(size: int) -> Iterator[tuple[int, int, int]]:
    """All p * q * r = size with p, q > 1, r = 1 first."""
    if size > LARGEST_ROW:
        return
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    for r in divisors:
        rest = size // r
        yield from ((p, rest // p, r) for p in divisors if rest % p == 0 and 1 < p < rest)


def _swapped(rows: np.ndarray, p: int, q: int, r: int) -> np.ndarray:
    return rows.reshape(len(rows), p, q, r).swapaxes(1, 2).reshape(len(rows), -1)
