"""A copy of a PyTorch layer with one thing changed."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Variant", "changed", "with_weights"]


class Variant(NamedTuple):
    """A layer with one thing changed.

    Attributes:
      suspect: Short name of the cause.
      explanation: What each side does, and the fix.
      run: Positional and keyword arguments of the call -> output.
    """

    suspect: str
    explanation: str
    run: Callable


def changed(layer: Any, **attributes: Any) -> Any:
    """Returns a copy of a layer with other attributes."""
    other = copy.deepcopy(layer)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def with_weights(layer: Any, weights: dict, suspect: str, explanation: str) -> Variant:
    """Returns the variant of a layer that has other weights."""
    import torch

    other = copy.deepcopy(layer)
    with torch.no_grad():
        for name, value in weights.items():
            getattr(other, name).copy_(value.detach())
    return Variant(suspect, explanation, other)
