"""Random networks, built twice from one description: Linen's own layers, and torch.nn's.

A description is a list of (kind, settings). Shapes are followed while it is drawn, so that every
description can be built. Activations are channels-last in Flax and channels-first in PyTorch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import strategies as st

__all__ = ["Description", "FlaxNet", "TorchNet", "descriptions", "example_input"]


class Description(NamedTuple):
    """A network.

    Attributes:
      domain: "vector", "sequence", "tokens" or the number of spatial axes of an image.
      shape: Shape of one input, channels last.
      layers: (kind, settings) from input to output.
    """

    domain: str
    shape: tuple[int, ...]
    layers: tuple[tuple[str, dict], ...]


SPATIAL = {"image1": 1, "image2": 2, "image3": 3}


@st.composite
def descriptions(draw: Callable) -> Description:
    """Draws a network of one to five layers."""
    domain = draw(st.sampled_from(["vector", "sequence", "tokens", *SPATIAL]))
    depth = draw(st.integers(1, 4))
    if domain == "vector":
        shape: tuple[int, ...] = (draw(st.integers(1, 5)),)
    elif domain == "tokens":
        shape = (draw(st.integers(1, 4)),)
    elif domain == "sequence":
        shape = (draw(st.integers(1, 4)), draw(st.sampled_from([2, 4])))
    else:
        sizes = (draw(st.integers(3, 5)) for _ in range(SPATIAL[domain]))
        shape = (*sizes, draw(st.integers(1, 4)))
    layers = []
    now, where = shape, domain
    if domain == "tokens":
        layers.append(("embedding", {"num": 7, "features": 4}))
        now, where = (*shape, 4), "sequence"
    for _ in range(depth):
        kind, settings, now = draw(_layer(where, now))
        layers.append((kind, settings))
    return Description(domain, shape, tuple(layers))


@st.composite
def _layer(draw: Callable, where: str, shape: tuple[int, ...]) -> tuple[str, dict, tuple]:
    width = draw(st.sampled_from([2, 4]))
    channels = shape[-1]
    bias = draw(st.booleans())
    if where in SPATIAL:
        kind = draw(st.sampled_from(["conv", "conv_transpose", "group_norm", "batch_norm", "tanh"]))
        if kind == "conv_transpose" and SPATIAL[where] == 3:
            kind = "conv"
    elif where == "sequence":
        kinds = ["linear", "layer_norm", "rms_norm", "RNN", "GRU", "LSTM", "attention"]
        kind = draw(st.sampled_from(kinds))
    else:
        kind = draw(st.sampled_from(["linear", "layer_norm", "rms_norm", "batch_norm", "tanh"]))
    if kind == "linear":
        return kind, {"features": width, "bias": bias}, (*shape[:-1], width)
    if kind == "conv":
        return draw(_convolution(shape, bias))
    if kind == "conv_transpose":
        return draw(_transposed_convolution(shape, bias))
    if kind == "group_norm":
        groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
        return kind, {"groups": groups}, shape
    if kind in GATED:
        settings = {
            "hidden": width,
            "layers": draw(st.integers(1, 3)),
            "bidirectional": draw(st.booleans()),
        }
        return kind, settings, (*shape[:-1], width * (1 + settings["bidirectional"]))
    if kind == "attention":
        heads = 2 if channels % 2 == 0 else 1
        return kind, {"heads": heads}, shape
    return kind, {}, shape


GATED = {
    "RNN": (nn.SimpleCell, torch.nn.RNN),
    "GRU": (nn.GRUCell, torch.nn.GRU),
    "LSTM": (nn.OptimizedLSTMCell, torch.nn.LSTM),
}


@st.composite
def _convolution(draw: Callable, shape: tuple[int, ...], bias: bool) -> tuple[str, dict, tuple]:
    channels = shape[-1]
    groups = draw(st.sampled_from([g for g in (1, 2, 4) if channels % g == 0]))
    features = groups * draw(st.integers(1, 2))
    settings: dict[str, Any] = {"features": features, "groups": groups, "bias": bias}
    for name, high in (("kernel", 3), ("stride", 2), ("dilation", 2), ("padding", 2)):
        low = 0 if name == "padding" else 1
        settings[name] = tuple(draw(st.integers(low, high)) for _ in shape[:-1])
    out = []
    for axis, size in enumerate(shape[:-1]):
        span = settings["dilation"][axis] * (settings["kernel"][axis] - 1) + 1
        if span > size + 2 * settings["padding"][axis]:
            settings["kernel"] = _at(settings["kernel"], axis, 1)
            span = 1
        padded = size + 2 * settings["padding"][axis]
        out.append((padded - span) // settings["stride"][axis] + 1)
    return "conv", settings, (*out, features)


@st.composite
def _transposed_convolution(
    draw: Callable, shape: tuple[int, ...], bias: bool
) -> tuple[str, dict, tuple]:
    features = draw(st.sampled_from([shape[-1], 3]))  # square kernels are the hard case
    settings: dict[str, Any] = {
        "features": features,
        "bias": bias,
        "transpose_kernel": draw(st.booleans()),
        "kernel": tuple(draw(st.integers(1, 4)) for _ in shape[:-1]),
        "stride": tuple(draw(st.integers(1, 3)) for _ in shape[:-1]),
        "dilation": (1,) * (len(shape) - 1),
        "padding": (0,) * (len(shape) - 1),
        "output_padding": (0,) * (len(shape) - 1),
    }
    out = []
    for axis, size in enumerate(shape[:-1]):
        kernel, stride = settings["kernel"][axis], settings["stride"][axis]
        padding = draw(st.integers(0, (kernel - 1) // 2))
        extra = draw(st.integers(0, stride - 1))
        settings["padding"] = _at(settings["padding"], axis, padding)
        settings["output_padding"] = _at(settings["output_padding"], axis, extra)
        out.append((size - 1) * stride - 2 * padding + kernel + extra)
    return "conv_transpose", settings, (*out, features)


def _at(values: tuple, axis: int, value: int) -> tuple:
    return (*values[:axis], value, *values[axis + 1 :])


class FlaxNet(nn.Module):
    """The description in Linen's own layers; layer i is named `layer_i`."""

    description: Description

    @nn.compact
    def __call__(self, x):
        for i, (kind, settings) in enumerate(self.description.layers):
            x = _flax_layer(kind, settings, f"layer_{i}", x)
        return x


def _flax_layer(kind: str, s: dict, name: str, x):
    if kind == "embedding":
        return nn.Embed(s["num"], s["features"], name=name)(x)
    if kind == "linear":
        return nn.Dense(s["features"], use_bias=s["bias"], name=name)(x)
    if kind == "tanh":
        return jnp.tanh(x)
    if kind == "layer_norm":
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)
    if kind == "rms_norm":
        return nn.RMSNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)
    if kind == "group_norm":
        return nn.GroupNorm(
            num_groups=s["groups"], epsilon=1e-5, use_fast_variance=False, name=name
        )(x)
    if kind == "batch_norm":
        return nn.BatchNorm(use_running_average=True, name=name)(x)
    if kind == "attention":
        return nn.MultiHeadDotProductAttention(num_heads=s["heads"], name=name)(x)
    if kind in GATED:
        return _flax_recurrent(kind, s, name, x)
    pads = tuple((p, p) for p in s["padding"])
    if kind == "conv":
        return nn.Conv(
            s["features"],
            s["kernel"],
            s["stride"],
            pads,
            kernel_dilation=s["dilation"],
            feature_group_count=s["groups"],
            use_bias=s["bias"],
            name=name,
        )(x)
    pads = tuple(
        (k - 1 - p, k - 1 - p + o)
        for k, p, o in zip(s["kernel"], s["padding"], s["output_padding"], strict=True)
    )
    return nn.ConvTranspose(
        s["features"],
        s["kernel"],
        s["stride"],
        pads,
        use_bias=s["bias"],
        transpose_kernel=s["transpose_kernel"],
        name=name,
    )(x)


def _cell(cell: type, hidden: int, name: str):
    # the dtype of a cell's carry is that of param_dtype, whatever its params are
    return cell(hidden, param_dtype=jnp.float64, name=name)


class _Stack(nn.Module):
    """Recurrent layers under the names that a transfer understands without a map."""

    cell: type
    hidden: int
    layers: int
    bidirectional: bool

    @nn.compact
    def __call__(self, x):
        for i in range(self.layers):
            out = nn.RNN(_cell(self.cell, self.hidden, f"l{i}"))(x)
            if self.bidirectional:
                cell = _cell(self.cell, self.hidden, f"l{i}_reverse")
                back = nn.RNN(cell, reverse=True, keep_order=True)
                out = jnp.concatenate([out, back(x)], axis=-1)
            x = out
        return x


def _flax_recurrent(kind: str, s: dict, name: str, x):
    cell = GATED[kind][0]
    if s["layers"] == 1 and not s["bidirectional"]:
        return nn.RNN(_cell(cell, s["hidden"], name))(x)
    return _Stack(cell, s["hidden"], s["layers"], s["bidirectional"], name=name)(x)


class TorchNet(torch.nn.Module):
    """The description in torch.nn's layers, channels first."""

    def __init__(self, description: Description):
        super().__init__()
        self.description = description
        channels = description.shape[-1]
        where = description.domain
        for i, (kind, settings) in enumerate(description.layers):
            layer, channels = _torch_layer(kind, settings, channels, where)
            if layer is not None:
                setattr(self, f"layer_{i}", layer)

    def forward(self, x):
        spatial = self.description.domain in SPATIAL
        x = x.movedim(-1, 1) if spatial else x
        for i, (kind, _) in enumerate(self.description.layers):
            layer = getattr(self, f"layer_{i}", torch.tanh)
            if kind in GATED:
                x, _ = layer(x)
            elif kind == "attention":
                x, _ = layer(x, x, x, need_weights=False)
            else:
                x = layer(x)
        return x.movedim(1, -1) if spatial else x


def _torch_layer(kind: str, s: dict, channels: int, where: str):
    nt = torch.nn
    if kind == "embedding":
        return nt.Embedding(s["num"], s["features"]), s["features"]
    if kind == "linear":
        return nt.Linear(channels, s["features"], bias=s["bias"]), s["features"]
    if kind == "tanh":
        return None, channels
    if kind == "layer_norm":
        return nt.LayerNorm(channels), channels
    if kind == "rms_norm":
        return nt.RMSNorm(channels, eps=1e-5), channels
    if kind == "group_norm":
        return nt.GroupNorm(s["groups"], channels), channels
    if kind == "batch_norm":
        dims = SPATIAL.get(where, 1)
        return getattr(nt, f"BatchNorm{dims}d")(channels), channels
    if kind == "attention":
        return nt.MultiheadAttention(channels, s["heads"], batch_first=True), channels
    if kind in GATED:
        layer = GATED[kind][1](
            channels,
            s["hidden"],
            s["layers"],
            batch_first=True,
            bidirectional=s["bidirectional"],
        )
        return layer, s["hidden"] * (1 + s["bidirectional"])
    dims = len(s["kernel"])
    common = (channels, s["features"], s["kernel"], s["stride"], s["padding"])
    if kind == "conv":
        layer = getattr(nt, f"Conv{dims}d")(
            *common, dilation=s["dilation"], groups=s["groups"], bias=s["bias"]
        )
    else:
        layer = getattr(nt, f"ConvTranspose{dims}d")(
            *common, output_padding=s["output_padding"], bias=s["bias"]
        )
    return layer, s["features"]


def example_input(description: Description, rng: np.random.Generator) -> np.ndarray:
    """A batch of three inputs."""
    if description.domain == "tokens":
        return rng.integers(0, 7, (3, *description.shape))
    return rng.normal(size=(3, *description.shape))
