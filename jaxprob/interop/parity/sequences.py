"""Variants of PyTorch's recurrent layers and of its attention."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxprob.interop.layouts import GATES
from jaxprob.interop.parity.outputs import to_numpy
from jaxprob.interop.parity.trace import Call
from jaxprob.interop.parity.variant import Variant, with_weights

__all__ = ["attention", "recurrent"]


def _flax_mask(layer: Any, twin: Call, mask: np.ndarray) -> Iterator[Variant]:
    """PyTorch's layer with the mask that Flax is given, `[B | 1, H | 1, T, S]`, True where kept."""
    import torch

    query, key = twin.inputs[0], twin.inputs[1 if len(twin.inputs) > 1 else 0]
    if mask.ndim != 4 or query.ndim != 3:
        return
    order = (0, 1) if layer.batch_first else (1, 0)
    batch, steps = query.shape[order[0]], query.shape[order[1]]
    shape = (batch, layer.num_heads, steps, key.shape[order[1]])
    try:
        kept = np.broadcast_to(mask != 0, shape)
    except ValueError:
        return
    hidden = torch.tensor(~kept.reshape(-1, *shape[2:]))
    given = twin.kwargs.get("key_padding_mask")
    inverse = False
    if given is not None:
        left_out = to_numpy(given)
        left_out = left_out if left_out.dtype == bool else np.isneginf(left_out)
        inverse = np.array_equal(np.broadcast_to(left_out[:, None, None], shape), kept)
    none = given is None and twin.kwargs.get("attn_mask") is None
    if inverse:
        suspect = "mask sense"
        words = "In Flax a mask says what to keep, in PyTorch (bool) what to leave out; invert it."
    elif none:
        suspect, words = "mask missing", "Flax is given a mask, PyTorch none."
    else:
        suspect, words = "another mask", "The two sides are given masks that hide other steps."

    def run(*args: Any, **kwargs: Any) -> Any:
        kwargs = {**kwargs, "key_padding_mask": None, "attn_mask": hidden, "is_causal": False}
        return layer(*args, **kwargs)[0]

    yield Variant(suspect, words, run)


def recurrent(layer: Any, cell: str) -> Iterator[Variant]:
    """Yields the variants of an RNN, GRU or LSTM: order of the gates, where a bias stands."""
    yield Variant(
        "initial state",
        "Flax starts from zeros, PyTorch from a state that it is given.",
        lambda x, *_: layer(x),
    )
    gates = GATES[cell]
    names = [name for name, _ in layer.named_parameters()]
    for order in itertools.permutations(range(len(gates))):
        if order == tuple(range(len(gates))):
            continue
        weights = {}
        for name in names:
            parts = getattr(layer, name).chunk(len(gates))
            weights[name] = _stacked([parts[i] for i in order])
        listed = ", ".join(gates[i] for i in order)
        yield with_weights(
            layer,
            weights,
            "gate order",
            f"Flax reads the gates as {listed}; PyTorch stacks {', '.join(gates)}.",
        )
    if cell == "LSTM":
        yield from _forget_bias(layer, names)
    if cell == "GRU":
        yield _candidate_bias(layer, names)


def _stacked(parts: list[Any]) -> Any:
    import torch

    return torch.cat(parts)


def _forget_bias(layer: Any, names: list[str]) -> Iterator[Variant]:
    for sign, words in ((1.0, "Flax adds 1 inside"), (-1.0, "PyTorch adds 1 inside")):
        weights = {}
        for name in names:
            if name.startswith("bias_ih"):
                bias = getattr(layer, name).detach().clone()
                size = bias.shape[0] // 4
                bias[size : 2 * size] += sign
                weights[name] = bias
        if weights:
            yield with_weights(
                layer, weights, "forget bias", f"{words} the sigmoid of the forget gate."
            )


def _candidate_bias(layer: Any, names: list[str]) -> Variant:
    weights = {}
    for name in names:
        if name.startswith("bias_ih"):
            other = f"bias_hh{name.removeprefix('bias_ih')}"
            inner, outer = (getattr(layer, n).detach().clone() for n in (name, other))
            candidate = 2 * (inner.shape[0] // 3)
            inner[candidate:] += outer[candidate:]
            outer[candidate:] = 0
            weights |= {name: inner, other: outer}
    return with_weights(
        layer,
        weights,
        "candidate bias",
        "The reset gate of PyTorch's GRU multiplies the bias b_hn; Flax has it outside, added to "
        "b_in. Keep the two apart (hn/bias).",
    )


def attention(layer: Any, twin: Call, ours: Call | None = None) -> Iterator[Variant]:
    """Yields the variants of a MultiheadAttention: masks, order of projections, scale."""
    import torch

    own = None if ours is None else ours.kwargs.get("mask")
    if own is not None:
        yield from _flax_mask(layer, twin, np.asarray(own))
    for name in ("attn_mask", "key_padding_mask"):
        mask = twin.kwargs.get(name)
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            yield Variant(
                "mask sense",
                "In Flax a mask says what to keep, in PyTorch (bool) what to leave out; invert it.",
                lambda *args, m=mask, n=name, **kwargs: layer(*args, **{**kwargs, n: ~m})[0],
            )
        yield Variant(
            "mask missing",
            f"PyTorch is given {name}, Flax no mask.",
            lambda *args, n=name, **kwargs: layer(*args, **{**kwargs, n: None})[0],
        )
    size = layer.embed_dim
    parts = {"in_proj_weight": layer.in_proj_weight}
    if layer.in_proj_bias is not None:
        parts["in_proj_bias"] = layer.in_proj_bias
    for order, listed in (((1, 0, 2), "key, query, value"), ((0, 2, 1), "query, value, key")):
        swapped = {
            name: torch.cat([tensor[i * size : (i + 1) * size] for i in order])
            for name, tensor in parts.items()
        }
        yield with_weights(
            layer, swapped, "projection order", f"Flax reads the stacked projections as {listed}."
        )
    scaled = {name: tensor.clone() for name, tensor in parts.items()}
    for tensor in scaled.values():
        tensor.data[:size] *= (size // layer.num_heads) ** 0.5
    yield with_weights(
        layer, scaled, "attention scale", "Flax does not divide the scores by sqrt(head size)."
    )
