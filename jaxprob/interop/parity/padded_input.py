"""A convolution whose input PyTorch pads before the layer, and Flax within."""

import itertools
from typing import Any

import numpy as np

from jaxprob.interop.modules import kind_of
from jaxprob.interop.parity.outputs import aligned, relative_error, to_numpy
from jaxprob.interop.parity.report import Finding
from jaxprob.interop.parity.trace import Matched

__all__ = ["padded_before"]

MODES = ("constant", "edge", "reflect", "wrap")
DILATIONS = (1, 2, 3, 4, 8, 16)


def padded_before(first: Matched, closed: float) -> Finding | None:
    """Explains a convolution that takes a padded input in PyTorch and gives another output."""
    layer = first.twin.layer
    kind = kind_of(layer) or ""
    if not kind.startswith("Conv") or "Transpose" in kind or not first.twin.inputs:
        return None
    ours, theirs = first.ours.inputs[0], np.moveaxis(first.twin.inputs[0], 1, -1)
    found = _window(ours, theirs)
    if found is None:
        return None
    pads, mode = found
    path = first.twin.path
    if mode is None:
        return Finding(path, "in", "padding", "PyTorch pads the input, with other values than 0.")
    said = f"PyTorch pads the input by {pads} before the layer"
    if mode != "constant":
        return Finding(path, "in", "padding mode", f"{said}, {mode}; Flax pads with zeros.")
    for dilation in dict.fromkeys([layer.dilation[0], *DILATIONS]):
        for own in _fitting(layer, ours.shape[1:-1], first.ours.output.shape[1:-1], dilation):
            made = _convolved(layer, ours, own, dilation)
            if relative_error(first.ours.output, aligned(first.ours.output, made)) > closed:
                continue
            if dilation != layer.dilation[0]:
                words = f"Flax's kernel_dilation is {dilation}, PyTorch's {layer.dilation[0]}."
                return Finding(path, "in", "dilation", words)
            return Finding(path, "in", "padding", f"{said}; Flax's layer pads by {own}.")
    return None


Pads = tuple[tuple[int, int], ...]


def _window(ours: np.ndarray, theirs: np.ndarray) -> tuple[Pads, str | None] | None:
    """How much wider the second is around the first, and with what; None where it is not."""
    if ours.ndim != theirs.ndim or ours.shape[0] != theirs.shape[0]:
        return None
    more = [b - a for a, b in zip(ours.shape, theirs.shape, strict=True)]
    if more[-1] or min(more) < 0 or not any(more):
        return None
    for low in itertools.product(*(range(m + 1) for m in more[1:-1])):
        inside = tuple(slice(a, a + n) for a, n in zip(low, ours.shape[1:-1], strict=True))
        if np.allclose(theirs[(slice(None), *inside)], ours, rtol=1e-9, atol=1e-12):
            pads = tuple((a, m - a) for a, m in zip(low, more[1:-1], strict=True))
            return pads, _mode(ours, theirs, pads)
    return None


def _mode(ours: np.ndarray, theirs: np.ndarray, pads: Pads) -> str | None:
    for mode in MODES:
        try:
            made = np.pad(ours, ((0, 0), *pads, (0, 0)), mode=mode)
        except ValueError:
            continue
        if np.allclose(made, theirs, rtol=1e-9, atol=1e-12):
            return mode
    return None


def _fitting(layer: Any, size: tuple, wanted: tuple, dilation: int) -> list[Pads]:
    """Paddings with which the layer gives an output of the wanted size, the same way on axes."""
    choices = []
    for n, out, k, stride in zip(size, wanted, layer.kernel_size, layer.stride, strict=True):
        total = (out - 1) * stride + dilation * (k - 1) + 1 - n
        choices.append([(low, total - low) for low in range(total + 1)] if total >= 0 else [])
    return list(itertools.islice(itertools.product(*choices), 200))


def _convolved(layer: Any, ours: np.ndarray, pads: Pads, dilation: int) -> np.ndarray:
    import torch

    x = torch.tensor(np.moveaxis(ours, -1, 1)).to(layer.weight.dtype)
    x = torch.nn.functional.pad(x, [p for pair in reversed(pads) for p in pair])
    function = getattr(torch.nn.functional, f"conv{x.ndim - 2}d")
    with torch.no_grad():
        return to_numpy(
            function(x, layer.weight, layer.bias, layer.stride, 0, dilation, layer.groups)
        )
