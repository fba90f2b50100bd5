"""Variants of PyTorch's recurrent layers and of its attention."""

import itertools
from collections.abc import Iterator
from typing import Any

from jaxprob.interop.layouts import GATES
from jaxprob.interop.parity.trace import Call
from jaxprob.interop.parity.variant import Variant, with_weights

__all__ = ["attention", "recurrent"]


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


def attention(layer: Any, twin: Call) -> Iterator[Variant]:
    """Yields the variants of a MultiheadAttention: masks, order of projections, scale."""
    import torch

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
