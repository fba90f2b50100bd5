"""Which steps, pixels or neighbours one side takes together, and how."""

from collections.abc import Iterator

import numpy as np

from jaxprob.interop.parity.functions import FUNCTIONS
from jaxprob.interop.parity.gap import Gap

__all__ = ["neighbours", "shifted", "steps"]

BEFORE = ("no function", "relu", "tanh", "gelu, erf form", "gelu, tanh form", "silu", "sigmoid")
MOST_SHIFT = 64


def steps(gap: Gap) -> tuple[str, str] | None:
    """Whether both sides reduce an axis, in two ways: a token, a mean, a maximum, with a mask."""
    for label, source in gap.sources:
        if source.ndim not in (3, 4) or source.ndim != gap.target.ndim + (source.ndim - 2):
            continue
        for name in BEFORE:
            made = FUNCTIONS[name](source)
            ours = _reduced_as(gap, made, gap.target)
            theirs = ours and _reduced_as(gap, made, gap.twin_target)
            if ours and theirs and ours != theirs:
                return _named(ours, theirs), f"Flax takes {ours} of {label}, PyTorch {theirs}."
    return None


def _named(ours: str, theirs: str) -> str:
    both = f"{ours} {theirs}"
    if "mask" in both or "lengths" in both:
        return "mask of a mean" if "mean" in both else "masked pooling"
    if "step" in both:
        return "which step"
    if {ours.split(" ")[1], theirs.split(" ")[1]} == {"sum", "mean"}:
        return "sum or mean"
    return "pooling"


def _reduced_as(gap: Gap, source: np.ndarray, target: np.ndarray) -> str | None:
    for words, made in _reduced(gap, source):
        if gap.close(made, target):
            return words
    return None


def _reduced(gap: Gap, source: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    axes = tuple(range(1, source.ndim - 1))
    yield "the mean", np.mean(source, axes)
    yield "the maximum", np.max(source, axes)
    yield "the sum", np.sum(source, axes)
    yield "the minimum", np.min(source, axes)
    yield "the sum over the root of the number", np.sum(source, axes) / source.shape[1] ** 0.5
    yield "the deviation by n", np.std(source, axes)
    yield "the deviation by n - 1", np.std(source, axes, ddof=1)
    yield "the logarithm of the summed exponentials", np.logaddexp.reduce(source, axes[0])
    if source.ndim != 3:
        return
    length = source.shape[1]
    for i in range(length):
        ordinal = {0: "the first step", length - 1: "the last step"}
        yield ordinal.get(i, f"step {i}"), source[:, i]
    yield "the mean of all but the first step", np.mean(source[:, 1:], 1)
    yield "the mean of all but the last step", np.mean(source[:, :-1], 1)
    for words, keep in _masks(gap, source.shape[:2]):
        inside = keep[..., None].astype(float)
        count = np.sum(inside, 1)
        total = np.sum(inside * source, 1)
        with np.errstate(all="ignore"):
            yield f"the mean over {words}", total / count
            yield f"the sum over {words}", total
            yield f"the sum over {words} by all steps, padding counted", total / length
            yield f"the maximum over {words}", np.max(np.where(inside > 0, source, -np.inf), axis=1)
            yield f"the maximum over {words}, zeros elsewhere", np.max(inside * source, axis=1)
        last = np.sum(keep, 1).astype(int)
        rows = np.arange(len(source))
        yield f"the last step of {words}", source[rows, np.maximum(last, 1) - 1]
        yield f"the step behind the last of {words}", source[rows, np.minimum(last, length - 1)]


def _masks(gap: Gap, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    for name, entry in gap.entries.items():
        values = np.unique(entry)
        if entry.shape == shape and np.all(np.isin(values, (0, 1))):
            yield f'the mask "{name}"', entry.astype(bool)
            yield f'what the mask "{name}" leaves out', ~entry.astype(bool)
        if entry.shape == shape and np.issubdtype(entry.dtype, np.integer):
            yield f'where "{name}" is not 0', entry != 0
        if entry.shape == shape[:1] and np.issubdtype(entry.dtype, np.integer):
            if np.all((entry >= 0) & (entry <= shape[1])):
                yield f'the lengths "{name}"', np.arange(shape[1])[None] < entry[:, None]


def shifted(gap: Gap) -> tuple[str, str] | None:
    """Whether the sides take the same values at another step, with zeros where there are none."""
    a, b = gap.target, gap.twin_target
    if a.ndim < 3 or a.shape != b.shape:
        return None
    for axis in range(1, a.ndim - 1):
        for distance in range(1, min(MOST_SHIFT, a.shape[axis])):
            early = np.take(a, range(distance, a.shape[axis]), axis)
            late = np.take(b, range(a.shape[axis] - distance), axis)
            if gap.close(early, late):
                return "shift in time", _shift_words("Flax", distance, axis)
            early = np.take(b, range(distance, a.shape[axis]), axis)
            late = np.take(a, range(a.shape[axis] - distance), axis)
            if gap.close(early, late):
                return "shift in time", _shift_words("PyTorch", distance, axis)
    return None


def _shift_words(side: str, distance: int, axis: int) -> str:
    return (
        f"{side}'s values stand {distance} later along axis {axis}: a causal padding, or a shift "
        f"by {distance}, that the other side has not."
    )


def neighbours(gap: Gap) -> tuple[str, str] | None:
    """Whether both sides multiply by a matrix of the batch, normalised in two ways."""
    for name, entry in gap.entries.items():
        if entry.ndim < 2 or entry.shape[-1] != entry.shape[-2]:
            continue
        matrix = entry.astype(float)
        for label, source in gap.sources:
            if source.ndim < 2 or source.shape[-2] != matrix.shape[-1]:
                continue
            for before in ("no function", "relu", "tanh"):
                values = FUNCTIONS[before](source)
                ours = _aggregated(gap, matrix, values, gap.target)
                theirs = ours and _aggregated(gap, matrix, values, gap.twin_target)
                if ours and theirs and ours != theirs:
                    return (
                        "aggregation",
                        f'From {label} Flax takes {ours} of "{name}", PyTorch {theirs}.',
                    )
    return None


def _aggregated(gap: Gap, matrix: np.ndarray, values: np.ndarray, target: np.ndarray) -> str | None:
    for words, weights in _normalised(matrix):
        if not np.all(np.isfinite(weights)):
            continue
        made = weights @ values
        if gap.close(made, target):
            return words
        for name in ("relu", "tanh"):
            if gap.close(FUNCTIONS[name](made), target):
                return f"{name} of {words}"
        if made.shape == values.shape and gap.close(made + values, target):
            return f"the nodes themselves plus {words}"
    return None


def _normalised(matrix: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    eye = np.eye(matrix.shape[-1])
    turned = np.swapaxes(matrix, -1, -2)
    for loops, own in (("", matrix), (" with self loops", matrix + eye)):
        rows = np.sum(own, -1, keepdims=True)
        columns = np.sum(own, -2, keepdims=True)
        yield f"the sum over neighbours{loops}", own
        with np.errstate(all="ignore"):
            yield f"the mean over neighbours{loops}", own / rows
            yield f"the mean over neighbours{loops}, 0 without any", own / np.maximum(rows, 1.0)
            yield f"the mean by columns{loops}", own / columns
            yield f"the sum by the roots of both degrees{loops}", own / np.sqrt(rows * columns)
    yield "the sum over neighbours in the other direction", turned
    yield (
        "the mean over neighbours in the other direction",
        turned / np.maximum(np.sum(turned, -1, keepdims=True), 1.0),
    )
