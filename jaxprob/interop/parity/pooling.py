"""Pooling that stands between layers as a function, recognised by its values."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxprob.interop.parity.functions import FUNCTIONS
from jaxprob.interop.parity.outputs import relative_error

__all__ = ["pooling"]

ACTIVATIONS = ("no function", "relu", "tanh", "elu", "silu", "gelu, erf form", "gelu, tanh form",
               "leaky relu, slope 0.01", "leaky relu, slope 0.2", "relu6", "sigmoid")  # fmt: skip


def pooling(
    source: np.ndarray, target: np.ndarray, twin_target: np.ndarray, closed: float
) -> tuple[str, str] | None:
    """Returns (suspect, explanation) if both sides pool the source, in two ways.

    Args:
      source: Output of the last layer that agrees `[B, H, W, C]`.
      target: What Flax makes of it `[B, h, w, C]`.
      twin_target: What PyTorch makes of it, channels first or last.
      closed: Tolerance.
    """
    if source.ndim != 4 or target.ndim != 4 or twin_target.ndim != 4:
        return None
    for activation in ACTIVATIONS:
        made = FUNCTIONS[activation](source)
        ours = _recognise(made, target, closed)
        theirs = ours and (
            _recognise(made, np.moveaxis(twin_target, 1, -1), closed)
            or _recognise(made, twin_target, closed)
        )
        if ours and theirs and ours != theirs:
            return (
                "pooling",
                f"Flax takes the {ours}, PyTorch the {theirs} (nn.max_pool and nn.avg_pool of Flax "
                "have stride 1 unless told, PyTorch's the size of the window).",
            )
    return None


def _recognise(source: np.ndarray, target: np.ndarray, closed: float) -> str | None:
    if target.shape[0] != source.shape[0] or target.shape[-1] != source.shape[-1]:
        return None
    for name, made in _pooled(source):
        if made.shape == target.shape and relative_error(made, target) <= closed:
            return name
    return None


def _pooled(source: np.ndarray) -> Iterator[tuple[str, Any]]:
    import torch
    import torch.nn.functional as F

    x = torch.tensor(np.moveaxis(source, -1, 1))
    for size in range(2, min(5, *x.shape[2:]) + 1):
        for stride in range(1, size + 1):
            for padding in range(size // 2 + 1):
                words = f"over {size} x {size}, stride {stride}, padding {padding}"
                yield f"maximum {words}", _last(F.max_pool2d(x, size, stride, padding))
                for counted in (True, False) if padding else (True,):
                    made = F.avg_pool2d(x, size, stride, padding, count_include_pad=counted)
                    zeros = "" if not padding else (
                        ", padding counted" if counted else ", padding not counted"
                    )  # fmt: skip
                    yield f"mean {words}{zeros}", _last(made)


def _last(tensor: Any) -> np.ndarray:
    return np.moveaxis(tensor.numpy(), 1, -1)
