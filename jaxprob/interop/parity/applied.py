"""What each side applies between two layers, judged by values alone."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from jaxprob.interop.parity.fitted import fitted
from jaxprob.interop.parity.functions import FUNCTIONS, recognise

__all__ = ["applied", "residual"]

SMOOTH, TURNS = 0.35, 4.0
"""Values are taken for a function of the source if, sorted by the source, they vary less than this
part of a random order, and less than so many times from end to end."""


def applied(
    source: np.ndarray,
    target: np.ndarray,
    twin_target: np.ndarray,
    closed: float,
    earlier: Sequence[np.ndarray] = (),
    both: bool = False,
) -> tuple[str, str] | None:
    """What each side applies to the output of the last layer that agrees.

    Args:
      source: That output.
      target: What Flax makes of it.
      twin_target: What PyTorch makes of it.
      closed: Tolerance.
      earlier: What other layers took and gave before, for residual sums.
      both: Answer only if the functions of both sides are recognised.

    Returns:
      (suspect, explanation). The suspect is "unknown" if one side alone is recognised and nothing
      says that the other applies a function too.
    """
    parts = list(_parts(source, target.shape))
    fits = [(fitted(part, target, closed), fitted(part, twin_target, closed)) for part in parts]
    swapped = _swapped(fits)
    if swapped:
        return swapped
    for part, (ours, theirs) in zip(parts, fits, strict=True):
        if ours and theirs and ours != theirs:
            return _named(ours, theirs), f"Flax applies {ours}; PyTorch applies {theirs}."
        if (ours or theirs) and not both and ours != theirs:
            known = f"Flax applies {ours}" if ours else f"PyTorch applies {theirs}"
            side, other = ("PyTorch", twin_target) if ours else ("Flax", target)
            if ours == "no function" and _is_dropped(part, other):
                zeros = np.mean(other == 0)
                return "dropout", f"PyTorch drops {zeros:.0%} of the values, Flax none."
            for array in earlier:
                if array.shape == part.shape and recognise(part + array, other, closed) == (
                    ours or theirs
                ):
                    return (
                        "residual",
                        f"{known} to the layer's output alone; {side} adds what an earlier layer "
                        "took or gave: a skip connection is missing.",
                    )
            words = f"{known}; {side} something else."
            return ("activation" if _is_function(part, other) else "unknown"), words
    return None


def _swapped(fits: Sequence[tuple[str | None, str | None]]) -> tuple[str, str] | None:
    """Whether the sides apply their functions to different chunks of the source."""
    own = [(i, ours) for i, (ours, theirs) in enumerate(fits) if ours and not theirs]
    others = [(i, theirs) for i, (ours, theirs) in enumerate(fits) if theirs and not ours]
    if len(own) != 1 or len(others) != 1:
        return None
    return "chunk order", (
        f"Flax applies {own[0][1]} to chunk {own[0][0]} of the last axis, PyTorch {others[0][1]} "
        f"to chunk {others[0][0]} (counted from 0)."
    )


def residual(
    sources: Sequence[np.ndarray], target: np.ndarray, twin_target: np.ndarray, closed: float
) -> tuple[str, str] | None:
    """Whether the sides differ by a multiple of what an earlier layer took or gave."""
    if target.shape != twin_target.shape:
        return None
    difference = twin_target - target
    for values, side, other in ((target, "Flax", "PyTorch"), (twin_target, "PyTorch", "Flax")):
        if not np.any(values) and np.any(difference):
            return "zeros", f"{side} goes on with zeros where {other} has values."
    for array in sources:
        if array.shape != difference.shape or not np.any(array):
            continue
        factor = float(np.sum(difference * array) / np.sum(array * array))
        if np.max(np.abs(difference - factor * array)) <= closed * np.max(np.abs(difference)):
            side = "PyTorch" if factor > 0 else "Flax"
            if abs(abs(factor) - 1) <= closed:
                return (
                    "residual",
                    f"{side} adds what an earlier layer took or gave, the other side does not: a "
                    "skip connection is missing.",
                )
            return (
                "scale of a sum",
                f"Of what an earlier layer took or gave, {side}'s sum holds {abs(factor):.6g} "
                "times more than the other side's: a factor is missing.",
            )
    return None


def _named(ours: str, theirs: str) -> str:
    if ("by n - 1" in ours) != ("by n - 1" in theirs):
        return "n or n - 1"
    plain = {name.split(" + ")[0] for name in (ours, theirs)}
    if len(plain) == 1:
        return "epsilon" if all(_added(name) < SMALL for name in (ours, theirs)) else "offset"
    if plain == {"exp", "exp of the half"}:
        return "variance against standard deviation"
    if all("softmax" in name for name in plain):
        if len({_family(name) for name in plain}) == 1:
            return "scale"
        same = len({name.removeprefix("log ") for name in plain}) == 1
        return "softmax or log softmax" if same else "softmax axis"
    family = {_family(name) for name in (ours, theirs)}
    if len(family) == 1:
        if family == {"the values"}:
            return "scale"
        known = ours in FUNCTIONS and theirs in FUNCTIONS
        return f"{family.pop()} form" if known else f"constant in {family.pop()}"
    if any(name.endswith(" times the values") for name in (ours, theirs)):
        return "scale"
    return "activation"


SMALL = 0.02
"""Constants below this are added to keep a root or a quotient finite."""


def _added(name: str) -> float:
    constant = name.partition(" + ")[2]
    return abs(float(constant)) if re.fullmatch(r"-?[\d.]+(e-?\d+)?", constant) else 0.0


def _family(name: str) -> str:
    """A function without its constants."""
    plain = re.sub(r"-?\d[\d.e+-]* times ", "", name).split(",")[0].split(" + ")[0]
    plain = re.sub(r"(?<!axis) -?\d\S*", "", plain).replace(" of the values", "")
    return plain


def _is_dropped(source: np.ndarray, target: np.ndarray) -> bool:
    """Whether some values are 0, and the others are the source's, all enlarged alike."""
    left = target != 0
    if source.shape != target.shape or np.all(left) or not np.any(left) or np.any(source == 0):
        return False
    ratio = target[left] / source[left]
    return bool(np.ptp(ratio) <= 1e-6 * ratio[0] and ratio[0] > 1)


def _is_function(source: np.ndarray, target: np.ndarray) -> bool:
    """Whether near values of the source have near values in the target."""
    if source.shape != target.shape or source.size < 8:
        return False
    values = target.ravel()[np.argsort(source, axis=None)]
    shuffled = np.random.default_rng(0).permutation(values)
    variation = np.sum(np.abs(np.diff(values)))
    random = np.sum(np.abs(np.diff(shuffled)))
    return bool(variation < min(SMOOTH * random, TURNS * np.ptp(values)))


def _parts(source: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The source, or the slices of its last axis that have the wanted shape."""
    if source.shape == shape:
        yield source
    elif source.ndim and len(shape) == source.ndim and source.shape[:-1] == shape[:-1]:
        size, width = source.shape[-1], shape[-1]
        for start in range(0, size - width + 1, width):
            yield source[..., start : start + width]
    elif source.ndim == len(shape) + 1 and source.shape[:-1] == shape:
        for i in range(source.shape[-1]):
            yield source[..., i]
