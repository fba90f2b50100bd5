"""Corrected copies of a PyTorch layer: the one that gives Flax's output names the suspect.

Each variant changes one thing that ports get wrong. It runs on the input of the layer in PyTorch;
if its output is Flax's, the gap is closed and the cause is known.
"""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxprob.interop.layouts import GATES
from jaxprob.interop.modules import kind_of
from jaxprob.interop.parity.sequences import attention, recurrent
from jaxprob.interop.parity.trace import Call
from jaxprob.interop.parity.variant import Variant, changed, with_weights

__all__ = ["variants"]


def variants(twin: Call, call: Call | None = None) -> Iterator[Variant]:
    """Yields the variants of a layer.

    Args:
      twin: The call in PyTorch.
      call: The call of the Linen module, where there is one.
    """
    import torch

    ours = None if call is None else call.layer
    layer = twin.layer
    kind = kind_of(layer) or type(layer).__name__
    if hasattr(layer, "eps"):
        yield from _epsilons(layer, ours)
    if kind == "BatchNorm":
        yield _mode(layer)
    if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
        yield _dropout(layer)
    if kind == "Linear" and layer.weight.shape[0] == layer.weight.shape[1]:
        yield with_weights(
            layer,
            {"weight": layer.weight.T},
            "kernel not transposed",
            "The Flax kernel is the PyTorch weight itself; it must be its transpose (a square one "
            "passes every shape check). Use interop.from_torch.",
        )
    if getattr(layer, "bias", None) is not None and hasattr(layer, "weight"):
        yield with_weights(
            layer,
            {"bias": torch.zeros_like(layer.bias)},
            "bias",
            "Flax does not add the bias that PyTorch adds.",
        )
    if kind.startswith("ConvTranspose"):
        yield from _conv_transpose(layer)
    elif kind.startswith("Conv"):
        yield from _conv(layer)
    if kind == "Embedding":
        yield from _embedding(layer)
    if kind.removesuffix("Cell") in GATES:
        yield from recurrent(layer, kind.removesuffix("Cell"))
    if kind == "MultiheadAttention":
        yield from attention(layer, twin, call)
    if kind == "GroupNorm":
        yield from _groups(layer)
    if kind == type(layer).__name__ and not hasattr(torch.nn, kind):
        yield from _transposed(layer)
    yield from _without_weights(layer)


def _epsilons(layer: Any, ours: Any) -> Iterator[Variant]:
    import torch

    own = getattr(ours, "epsilon", getattr(ours, "eps", None))
    present = torch.finfo(next(layer.parameters()).dtype).eps if layer.eps is None else layer.eps
    for eps in dict.fromkeys([own, 1e-6, 1e-5, 1e-8, 1e-3, 1e-12]):
        if eps is not None and eps != present:
            yield Variant(
                "epsilon",
                f"Flax uses epsilon={eps:g}, PyTorch eps={present:g}; give both the same.",
                changed(layer, eps=eps),
            )


def _groups(layer: Any) -> Iterator[Variant]:
    for groups in range(1, layer.num_channels + 1):
        if layer.num_channels % groups == 0 and groups != layer.num_groups:
            yield Variant(
                "groups",
                f"Flax norms {groups} groups, PyTorch {layer.num_groups} (Linen's default is 32; "
                "group_size is the channels of a group, not their number).",
                changed(layer, num_groups=groups),
            )


def _transposed(layer: Any) -> Iterator[Variant]:
    """A layer of the user's own: parameters that may be used as they are, or transposed."""
    for name, value in layer.named_parameters(recurse=False):
        if value.ndim == 2 and value.shape[0] == value.shape[1]:
            yield with_weights(
                layer,
                {name: value.T},
                "parameter transposed",
                f"One side multiplies by {name}, the other by its transpose (F.linear transposes; "
                "a square one passes every shape check).",
            )


def _mode(layer: Any) -> Variant:
    now, other = ("train", "eval") if layer.training else ("eval", "train")
    return Variant(
        "train or eval mode",
        f"PyTorch's layer is in {now} mode, Flax's works like {other} mode; set "
        "use_running_average (or call .train() / .eval()) alike.",
        copy.deepcopy(layer).train(not layer.training),
    )


def _dropout(layer: Any) -> Variant:
    return Variant(
        "dropout",
        "Dropout is active in PyTorch and not in Flax; call .eval(), or draw both masks from one "
        "key with torch_ref.random.",
        lambda x: x,
    )


def _conv(layer: Any) -> Iterator[Variant]:
    import torch

    spatial = layer.weight.ndim - 2
    functional = getattr(torch.nn.functional, f"conv{spatial}d")
    yield with_weights(
        layer,
        {"weight": layer.weight.flip(tuple(range(2, 2 + spatial)))},
        "flipped kernel",
        "One side convolves, the other correlates: the taps are in reverse order.",
    )
    if spatial == 2 and layer.weight.shape[2] == layer.weight.shape[3]:
        yield with_weights(
            layer,
            {"weight": layer.weight.transpose(2, 3)},
            "kernel axes swapped",
            "Height and width of the kernel are swapped.",
        )
    pads = layer.padding if isinstance(layer.padding, tuple) else (0,) * spatial
    spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]

    def shifted(low: tuple[int, ...], high: tuple[int, ...]) -> Callable:
        def run(x: Any) -> Any:
            both = [p for pair in zip(reversed(low), reversed(high), strict=True) for p in pair]
            return functional(
                torch.nn.functional.pad(x, both),
                layer.weight,
                layer.bias,
                layer.stride,
                0,
                layer.dilation,
                layer.groups,
            )

        return run

    same = {"padding": tuple(layer.padding)} if isinstance(layer.padding, tuple) else {}
    for dilation in (1, 2, 3, 4):
        if (dilation,) * spatial == tuple(layer.dilation):
            continue
        centred = tuple(dilation * (k - 1) // 2 for k in layer.kernel_size)
        for padding in dict.fromkeys([centred, *same.values()]):
            other = changed(layer, dilation=(dilation,) * spatial, padding=padding)
            yield Variant(
                "dilation",
                f"Flax's kernel_dilation is {dilation}, PyTorch's dilation {layer.dilation}.",
                other,
            )
    choices = [range(span + 1) for span in spans]
    if int(np.prod([len(c) ** 2 for c in choices])) > 700:
        # large kernels: the same shift along every axis
        choices = [range(max(spans) + 1)]
    for low, high in itertools.product(itertools.product(*choices), repeat=2):
        low, high = (low * spatial)[:spatial], (high * spatial)[:spatial]
        if (low, high) != (tuple(pads), tuple(pads)):
            yield Variant(
                "padding",
                f"Flax pads {tuple(zip(low, high, strict=True))}, PyTorch "
                f"{tuple((p, p) for p in pads)} (low, high of each axis). 'SAME' pads more at the "
                "end with a stride; give Flax explicit pairs.",
                shifted(low, high),
            )


def _conv_transpose(layer: Any) -> Iterator[Variant]:
    import torch

    weight = layer.weight
    spatial = weight.ndim - 2
    functional = getattr(torch.nn.functional, f"conv_transpose{spatial}d")
    axes = tuple(range(2, 2 + spatial))
    if weight.shape[0] == weight.shape[1]:
        words = (
            "A kernel with equal numbers of channels fits both values of transpose_kernel: input "
            "and output channels are swapped and the taps reversed. Say which it is in to_torch / "
            "from_torch."
        )
        turned = weight.transpose(0, 1).flip(axes)
        yield with_weights(layer, {"weight": turned}, "transpose_kernel", words)
    yield with_weights(
        layer,
        {"weight": weight.flip(axes)},
        "flipped kernel",
        "The taps of the kernel are in reverse order.",
    )

    def cropped(offset: tuple[int, ...]) -> Callable:
        def run(x: Any) -> Any:
            # everything that the layer could give, then the window that Flax takes
            full = functional(x, weight, layer.bias, layer.stride, 0, 0, layer.groups,
                              layer.dilation)  # fmt: skip
            size = layer(x).shape[2:]
            reach = [p + o for p, o in zip(size, offset, strict=True)]
            beyond = [max(0, r - f) for r, f in zip(reach, full.shape[2:], strict=True)]
            pad = [v for b in reversed(beyond) for v in (0, b)]
            full = torch.nn.functional.pad(full, pad)
            if layer.bias is not None and any(beyond):
                bare = functional(x, weight, None, layer.stride, 0, 0, layer.groups, layer.dilation)
                bare = torch.nn.functional.pad(bare, pad)
                full = bare + layer.bias.reshape(-1, *(1,) * spatial)
            window = (slice(None), slice(None)) + tuple(
                slice(o, r) for o, r in zip(offset, reach, strict=True)
            )
            return full[window]

        return run

    spans = [range(d * (k - 1) + 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    for offset in itertools.product(*spans):
        if offset != tuple(layer.padding):
            yield Variant(
                "padding",
                f"Flax's window starts at {offset} of the full result, PyTorch's at "
                f"{tuple(layer.padding)}. 'SAME' is aligned otherwise; give Flax the pairs "
                "(d(k-1)-p, d(k-1)-p+output_padding).",
                cropped(offset),
            )
    removed = tuple(layer.padding)
    for each in range(max(len(span) for span in spans)):  # what Linen pads on every side
        other = tuple(span[-1] - each for span in spans)
        if min(other) >= 0 and other != removed:
            right = tuple(
                (span[-1] - p, span[-1] - p + more)
                for span, p, more in zip(spans, removed, layer.output_padding, strict=True)
            )
            yield Variant(
                "padding",
                f"Flax pads {each} on every side, where PyTorch's padding {removed} is what is "
                "removed from the result: Flax's pairs (d(k-1)-p, d(k-1)-p+output_padding) are "
                f"{right} here.",
                changed(layer, padding=other, output_padding=(0,) * len(spans)),
            )


def _embedding(layer: Any) -> Iterator[Variant]:
    root = layer.embedding_dim**0.5
    for factor, words in ((root, "times"), (1 / root, "divided by")):
        yield Variant(
            "embedding scale",
            f"Flax's embedding is {words} sqrt(embedding_dim), PyTorch's is not.",
            lambda x, f=factor: layer(x) * f,
        )


def _without_weights(layer: Any) -> Iterator[Variant]:
    """Activations, pooling, flattening: layers that Flax has as functions."""
    import torch

    nt = torch.nn
    if isinstance(layer, nt.Flatten):
        yield Variant(
            "flatten order",
            "Flax flattens channels last, PyTorch channels first: the next layer's inputs are "
            "permuted. Use jaxprob.nn.Flatten.",
            lambda x: layer(x.movedim(1, -1)),
        )
    if isinstance(layer, nt.AvgPool1d | nt.AvgPool2d | nt.AvgPool3d):
        yield Variant(
            "average over the padding",
            "One side counts the zeros of the padding in its averages (count_include_pad).",
            changed(layer, count_include_pad=not layer.count_include_pad),
        )
    if isinstance(layer, nt.GELU):
        other = "none" if layer.approximate == "tanh" else "tanh"
        yield Variant(
            "gelu form",
            f"Flax's gelu is the {'erf' if other == 'none' else 'tanh'} form (its default is "
            "tanh), PyTorch's the other; write partial(nn.gelu, approximate=False).",
            nt.GELU(approximate=other),
        )
    if isinstance(layer, nt.Softmax | nt.LogSoftmax):
        for dim in (-1, 1, 0):
            yield Variant(
                "softmax axis",
                f"Flax normalises over axis {dim}, PyTorch over {layer.dim}.",
                changed(layer, dim=dim),
            )
