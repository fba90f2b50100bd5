"""Packed sequences of PyTorch as padded arrays."""

from typing import Any

import numpy as np

from jaxprob.interop.parity.outputs import to_numpy

__all__ = ["first_packed", "padded"]


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
