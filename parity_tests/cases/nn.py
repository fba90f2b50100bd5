"""Rows of the layers in PyTorch's layout.

Every setting stands here three times: our layer, its twin, and the layer of `torch.nn` that users
have, called as its manual says. `LAYERS` are rows like all others; `SETTINGS` and `MORE` are for
`test_nn.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

import torch_ref.nn as twins
from jaxprob import nn
from parity_tests.engine import FunctionCase
from parity_tests.layers import Layer, leaves


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _directly(plain, *arguments):
    return plain(*arguments)


def _channels_first(plain, x):
    return plain(x.movedim(-1, 1)).movedim(1, -1)


def _linear(name: str, shape: Sequence[int], bias: bool = True) -> Layer:
    sizes = (shape[-1], 4, bias)
    return Layer(
        f"linear {name}",
        nn.Linear(4, bias=bias),
        twins.Linear(*sizes),
        torch.nn.Linear(*sizes),
        _directly,
        {"x": _normal(*shape)},
    )


def _conv(name: str, features: tuple[int, int], size: Sequence[int], kernel, **options) -> Layer:
    kind = getattr(torch.nn, f"Conv{len(kernel)}d")
    return Layer(
        f"conv {name}",
        nn.Conv(features[1], kernel, **options),
        twins.Conv(*features, kernel, **options),
        kind(*features, kernel, **options),
        _channels_first,
        {"x": _normal(2, *size, features[0])},
    )


def _conv_transpose(
    name: str, features: tuple[int, int], size: Sequence[int], kernel, **options
) -> Layer:
    kind = getattr(torch.nn, f"ConvTranspose{len(kernel)}d")
    return Layer(
        f"conv transpose {name}",
        nn.ConvTranspose(features[1], kernel, **options),
        twins.ConvTranspose(*features, kernel, **options),
        kind(*features, kernel, **options),
        _channels_first,
        {"x": _normal(2, *size, features[0])},
    )


def _norm(name: str, ours, twin, plain, call_plain=_directly, x=(5, 3, 6), **options) -> Layer:
    arrays = {"x": 2.0 + _normal(*x)}
    return Layer(f"norm {name}", ours, twin, plain, call_plain, arrays, options)


def _group_norm(groups: int, size: Sequence[int]) -> Layer:
    ours, twin, plain = (
        nn.GroupNorm(groups),
        twins.GroupNorm(6, groups),
        torch.nn.GroupNorm(groups, 6),
    )
    name = f"group, {groups} groups, {len(size)} axes"
    return _norm(name, ours, twin, plain, _channels_first, (3, *size, 6))


def _batch_norm(name: str, size: Sequence[int], train: bool, **arguments) -> Layer:
    def call(plain, x, train):
        return _channels_first(plain.train(train), x)

    ours, twin = nn.BatchNorm(**arguments), twins.BatchNorm(4, **arguments)
    plain = getattr(torch.nn, f"BatchNorm{max(len(size), 1)}d")(4, **arguments)
    return _norm(f"batch {name}", ours, twin, plain, call, (3, *size, 4), train=train)


BATCH, TIME, HIDDEN = 3, 5, 4
LENGTHS = np.array([5, 1, 3])


def _recurrent(
    kind: str, layers: int, bidirectional: bool, extras: Sequence[str] = (), **options
) -> Layer:
    """A recurrent network; `extras` may hold "initial" and "lengths"."""
    count = layers * (1 + bidirectional)
    arguments = {"x": _normal(BATCH, TIME, 3)}
    if extras:
        arguments["initial"] = _normal(count, BATCH, HIDDEN)
        if kind == "LSTM":
            arguments["cells"] = 0.5 + _normal(count, BATCH, HIDDEN)
    if "lengths" in extras:
        arguments["lengths"] = LENGTHS
    ours = getattr(nn, kind)(HIDDEN, num_layers=layers, bidirectional=bidirectional, **options)
    twin = getattr(twins, kind)(3, HIDDEN, layers, bidirectional=bidirectional, **options)
    plain = getattr(torch.nn, kind)(
        3, HIDDEN, layers, batch_first=True, bidirectional=bidirectional, **options
    )
    words = [
        kind.lower(),
        f"{layers} layer" + "s" * (layers > 1),
        *(["both ways"] if bidirectional else []),
        *extras,
    ]
    words += [f"{name} {value}" for name, value in options.items()]
    return Layer(", ".join(words), ours, twin, plain, _one_by_one, arguments)


def _one_by_one(plain, x, initial=None, lengths=None):
    """Every sequence alone and cut to its length: padding has no way in."""
    lengths = [x.shape[1]] * len(x) if lengths is None else lengths.tolist()
    outputs, finals = [], []
    for row, length in enumerate(lengths):
        own = slice(row, row + 1)
        start = initial
        if isinstance(initial, tuple):
            start = tuple(part[:, own].contiguous() for part in initial)
        elif initial is not None:
            start = initial[:, own].contiguous()
        output, final = plain(x[own, :length], start)
        outputs.append(torch.nn.functional.pad(output, (0, 0, 0, x.shape[1] - length)))
        finals.append(leaves(final))
    return torch.cat(outputs), *(torch.cat(parts, 1) for parts in zip(*finals, strict=True))


def _attention(name: str, arrays: Mapping[str, np.ndarray], bias: bool = True) -> Layer:
    def call(plain, query, key=None, value=None, mask=None):
        key = query if key is None else key
        value = key if value is None else value
        if mask is not None:
            shape = (len(query), 2, query.shape[1], key.shape[1])
            mask = ~mask.expand(shape).flatten(0, 1)  # theirs is True where it is closed
        return plain(query, key, value, attn_mask=mask, need_weights=False)[0]

    return Layer(
        f"attention {name}",
        nn.MultiheadAttention(6, 2, bias=bias),
        twins.MultiheadAttention(6, 2, bias=bias),
        torch.nn.MultiheadAttention(6, 2, bias=bias, batch_first=True),
        call,
        arrays,
    )


def _crossed(*mask_shape: int) -> dict[str, np.ndarray]:
    """Arguments of attention from 4 queries to 5 keys; no row of the mask is empty."""
    mask = np.random.default_rng(5).random(mask_shape) < 0.6
    mask[..., 1] = True
    query, key, value = _normal(BATCH, 4, 6), _normal(BATCH, 5, 6), _normal(BATCH, 5, 6) ** 2
    return {"query": query, "key": key, "value": value, "mask": mask}


def _closed() -> dict[str, np.ndarray]:
    """Some queries may look nowhere."""
    arguments = _crossed(BATCH, 1, 4, 5)
    arguments["mask"][0, :, 2] = False
    arguments["mask"][1] = False
    return arguments


def _dropout(rate: float, train: bool, differentiable: bool = True) -> FunctionCase:
    ours, twin = nn.Dropout(rate), twins.Dropout(rate)
    return FunctionCase(
        f"dropout {rate}, train {train}",
        lambda a, key: {"output": ours.apply({}, a["x"], key, train)},
        lambda a, key: {"output": twin(a["x"], key, train)},
        {"x": _normal(6, 5, 4)},
        differentiable,
    )


def _flatten(*size: int) -> Layer:
    return Layer(
        f"flatten {len(size)} axes",
        nn.Flatten(),
        twins.Flatten(),
        torch.nn.Flatten(),
        lambda plain, x: plain(x.movedim(-1, 1)),
        {"x": _normal(2, *size, 3)},
    )


# (k, s, p, output_padding, d): among them the pairs for which the padding words of Flax and XLA
# give another size or, worse, another alignment.
TRANSPOSES = (
    (3, 1, 1, 0, 1),
    (3, 2, 1, 1, 1),
    (4, 2, 1, 0, 1),
    (5, 2, 2, 1, 1),
    (3, 2, 0, 0, 1),
    (2, 2, 0, 0, 1),
    (4, 3, 1, 1, 1),
    (5, 3, 0, 2, 1),
    (2, 3, 0, 0, 1),
    (3, 2, 1, 1, 2),
)

LAYERS = [
    _linear("of rows", (5, 3)),
    _conv("1d same, even kernel", (3, 4), (9,), (4,), padding="same", dilation=3),
    _conv("2d, stride 2 on an even size", (3, 4), (6, 6), (3, 3), stride=2, padding=1),
    _conv(
        "2d, axes differ", (3, 4), (7, 9), (3, 2), stride=(2, 1), padding=(0, 2), dilation=(2, 3)
    ),
    _conv(
        "3d, stride, dilation, groups", (4, 2), (5, 5, 7), (2, 2, 3), stride=2, dilation=2, groups=2
    ),
    _conv_transpose(
        "2d, axes differ, groups",
        (6, 3),
        (4, 3),
        (3, 2),
        stride=(2, 3),
        padding=(1, 0),
        output_padding=(1, 2),
        groups=3,
    ),
    Layer(
        "embedding",
        nn.Embedding(7, 3),
        twins.Embedding(7, 3),
        torch.nn.Embedding(7, 3),
        _directly,
        {"indices": np.array([[0, 6, 3, 3], [1, 0, 0, 2]])},
    ),
    _norm("layer", nn.LayerNorm(), twins.LayerNorm(6), torch.nn.LayerNorm(6)),
    _norm("RMS", nn.RMSNorm(), twins.RMSNorm(6), torch.nn.RMSNorm(6)),
    _group_norm(3, (5,)),
    _batch_norm("train, rows", (), True),
    _batch_norm("train, 3 axes", (2, 3, 2), True),
    _batch_norm("evaluate, 2 axes", (3, 2), False),
    _recurrent("RNN", 1, True, ["initial", "lengths"], nonlinearity="relu", bias=False),
    _recurrent("GRU", 2, True, ["initial", "lengths"]),
    _recurrent("LSTM", 2, True, ["initial", "lengths"]),
    _attention("to itself", {"query": _normal(BATCH, 4, 6)}),
    _attention("masked heads", _crossed(BATCH, 2, 4, 5)),
    _flatten(2, 4),
]

# More settings, in float64 alone.
SETTINGS = [
    _linear("of sequences, no bias", (2, 3, 5), bias=False),
    _conv("1d", (3, 4), (9,), (3,), stride=2, padding=1),
    _conv("2d", (3, 4), (6, 6), (3, 3), padding=1),
    _conv("2d, groups", (4, 6), (6, 5), (3, 3), padding=1, groups=2),
    _conv("3d", (2, 3), (4, 5, 6), (2, 3, 1), padding=(1, 0, 1)),
    *(
        _conv_transpose(
            f"2d k{k} s{s} p{p} op{extra} d{d}",
            (3, 2),
            (4, 3),
            (k, k),
            stride=s,
            padding=p,
            output_padding=extra,
            dilation=d,
        )
        for k, s, p, extra, d in TRANSPOSES
    ),
    _conv_transpose("1d, groups", (4, 6), (5,), (3,), stride=2, groups=2),
    _conv_transpose("2d, much padding, no bias", (3, 2), (6, 6), (3, 3), padding=3, bias=False),
    _conv_transpose("3d", (2, 3), (3, 2, 3), (2, 3, 2), stride=2, padding=1, output_padding=1),
    _norm(
        "layer, eps, no bias",
        nn.LayerNorm(eps=0.1, bias=False),
        twins.LayerNorm(6, eps=0.1, bias=False),
        torch.nn.LayerNorm(6, 0.1, bias=False),
    ),
    *(_group_norm(groups, size) for groups, size in ((2, ()), (1, (3, 2)), (6, (3, 2)))),
    _batch_norm("train, 1 axis", (4,), True, momentum=0.3, eps=0.01),
    _attention("across, no bias", {"query": _normal(2, 4, 6), "key": _normal(2, 5, 6)}, bias=False),
    _recurrent("GRU", 3, False),
    _recurrent("LSTM", 1, False, ["initial"], bias=False),
    _flatten(4),
]

# More of the same, for the slow proof.
MORE = [
    _conv("1d valid", (3, 4), (9,), (4,), padding="valid", bias=False),
    _conv("2d, depthwise", (4, 8), (6, 5), (3, 3), stride=2, groups=4),
    _norm(
        "layer, not affine",
        nn.LayerNorm(elementwise_affine=False),
        twins.LayerNorm(6, elementwise_affine=False),
        torch.nn.LayerNorm(6, elementwise_affine=False),
    ),
    _norm("RMS, eps", nn.RMSNorm(eps=0.1), twins.RMSNorm(6, eps=0.1), torch.nn.RMSNorm(6, eps=0.1)),
    _attention("masked pairs", _crossed(4, 5)),
    _attention("masked keys", _crossed(BATCH, 1, 1, 5)),
    _flatten(),
    *(
        _recurrent(kind, layers, bidirectional, extras, bias=layers != 2)
        for kind in ("RNN", "GRU", "LSTM")
        for layers in (1, 2, 3)
        for bidirectional in (False, True)
        for extras in ((), ("initial", "lengths"))
    ),
]

# torch's own layer has no sensible answer for these (NaN)
TWINS_ONLY = [_attention("empty rows", _closed())]

FUNCTIONS = [
    *(layer.case() for layer in (*LAYERS, *TWINS_ONLY)),
    _dropout(0.3, True),
    _dropout(1.0, True, differentiable=False),  # torch has none to compare
]
