"""What is known between the last layer that agrees and the first that does not."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from jaxprob.interop.parity.outputs import relative_error

__all__ = ["Gap", "Labelled", "told_apart"]

MOST_PARTS = 24
"""Arrays from which a formula may be made; the latest come first."""


ORDINALS = ("first", "second", "third", "fourth")


class Labelled(NamedTuple):
    """An array that both sides have.

    Attributes:
      label: What it is, e.g. "what fc1 gives".
      array: Its values, channels last.
    """

    label: str
    array: np.ndarray


class Gap(NamedTuple):
    """Values that ought to be equal, and what they may have been made from.

    Attributes:
      sources: What the layers before gave and took, the latest first.
      entries: The batch by name.
      target: Flax's values.
      twin_target: PyTorch's.
      closed: Tolerance.
    """

    sources: tuple[Labelled, ...]
    entries: Mapping[str, np.ndarray]
    target: np.ndarray
    twin_target: np.ndarray
    closed: float

    def outputs(self) -> Iterator[Labelled]:
        """What layers gave, the latest first."""
        return (s for s in self.sources if s.label.endswith("gives"))

    def parts(self) -> list[Labelled]:
        """Arrays that broadcast to the target: sources, entries of the batch, halves of them."""
        floats = [
            Labelled(f'batch["{name}"]', array)
            for name, array in self.entries.items()
            if np.issubdtype(array.dtype, np.floating)
        ]
        both = (*floats, *self.sources)
        found = [part for source in both for part in _fitting(source, self.target.shape)]
        unique: list[Labelled] = []
        for part in found:
            if not any(np.array_equal(part.array, other.array) for other in unique):
                unique.append(part)
        return unique[:MOST_PARTS]

    def close(self, made: np.ndarray, target: np.ndarray) -> bool:
        """Whether an array is the target up to the tolerance."""
        return bool(np.all(np.isfinite(made))) and relative_error(made, target) <= self.closed


def _fitting(source: Labelled, shape: tuple[int, ...]) -> Iterator[Labelled]:
    """The array, its chunks along the last axis, or those of a row for each of its steps."""
    label, array = source
    if array.shape == shape:
        yield source
        return
    if not shape or not array.ndim or array.shape[0] != shape[0] or not shape[-1]:
        return
    number, rest = divmod(array.shape[-1], shape[-1])
    one_a_row = array.ndim == 2 and len(shape) > 2
    if rest or not 1 <= number <= len(ORDINALS):
        return
    if not one_a_row and (number == 1 or array.shape[:-1] != shape[:-1]):
        return
    for ordinal, part in zip(ORDINALS, np.split(array, number, axis=-1), strict=False):
        if one_a_row:
            part = np.expand_dims(part, tuple(range(1, len(shape) - 1)))
        chunk = f"the {ordinal} of {number} chunks of " if number > 1 else ""
        yield Labelled(f"{chunk}{label}", np.broadcast_to(part, shape))


def told_apart(
    ours: Mapping[str, str] | None, theirs: Mapping[str, str] | None
) -> tuple[list[str], str] | None:
    """Returns (aspects that differ, sentence) of two formulas of one form; None if there are none.

    Args:
      ours: Aspect -> what Flax has there.
      theirs: The same of PyTorch.
    """
    if not ours or not theirs or ours.keys() != theirs.keys():
        return None
    differ = [aspect for aspect in ours if ours[aspect] != theirs[aspect]]
    if not differ:
        return None
    sides = [", ".join(f"{aspect}: {side[aspect]}" for aspect in differ) for side in (ours, theirs)]
    return differ, f"Flax has {sides[0]}; PyTorch has {sides[1]}."
