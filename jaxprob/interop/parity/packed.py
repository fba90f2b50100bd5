"""Packed sequences of PyTorch as padded arrays."""

from typing import Any

import numpy as np

from jaxprob.interop.parity.outputs import to_numpy

__all__ = ["BEHIND", "behind_ends", "first_packed", "padded"]

BEHIND = (
    "states behind the ends",
    "Both agree up to the end of each sequence. Behind it PyTorch's packed layer gives 0, Flax's "
    "run goes on: multiply by the mask of the lengths, or leave these steps out of the loss.",
)
"""(suspect, explanation)"""


def first_packed(value: Any) -> Any:
    """The packed sequence that a value is or begins with, or None."""
    if hasattr(value, "batch_sizes") and hasattr(value, "data"):
        return value
    if isinstance(value, tuple) and value and not hasattr(value, "detach"):
        return first_packed(value[0])
    return None


def padded(packed: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns (array `[B, T, ...]`, 0 behind the ends; whether a step is there `[B, T]`)."""
    import torch

    array, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    steps = np.arange(array.shape[1])[None]
    return to_numpy(array), steps < lengths.numpy()[:, None]


def behind_ends(
    valid: np.ndarray, target: np.ndarray, twin_target: np.ndarray, closed: float
) -> bool:
    """Whether arrays `[B, T, ...]` differ behind the ends alone, `valid` `[B, T]` up to these."""
    if target.shape != twin_target.shape or target.shape[:1] != valid.shape[:1] or target.ndim < 3:
        return False
    steps = valid.shape[1]
    if target.shape[1] < steps:
        return False
    inside = np.zeros(target.shape[:2], bool)
    inside[:, :steps] = valid
    apart = np.abs(target - twin_target).max(axis=tuple(range(2, target.ndim)))
    size = np.max(np.abs(twin_target[np.isfinite(twin_target)]), initial=0.0)
    return bool(np.all(apart[inside] <= closed * size) and np.any(apart[~inside] > closed * size))
