"""The layers against `torch.nn` itself, and proofs that their rows can fail.

The rows of `cases/nn.py` compare our layers with twins by the same hand; here both are compared
with the layer that users have, its weights loaded by name.
"""

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax.traverse_util import flatten_dict

import torch_ref.nn as twins
from parity_tests.cases.nn import FUNCTIONS, LAYERS, MORE, SETTINGS
from parity_tests.engine import compare_function, record, relative_error
from parity_tests.layers import Layer
from parity_tests.tolerances import MODELS
from torch_ref import random

VALUE, GRADIENT = MODELS["value"], MODELS["gradient"]
ROWS = {layer.name: layer for layer in (*LAYERS, *SETTINGS, *MORE)}

# Against torch.nn directly; the others take the way through their twins, and are slow.
ONE_OF_EACH = (
    "linear of rows",
    "conv 2d, stride 2 on an even size",
    "conv transpose 2d k3 s2 p1 op1 d1",
    "embedding",
    "norm layer",
    "norm RMS",
    "norm group, 3 groups, 1 axes",
    "norm batch train, 3 axes",
    "gru, 2 layers, both ways, initial, lengths",
    "attention masked heads",
    "flatten 2 axes",
)


def values_of(layer: Layer, convert: Callable) -> dict:
    return {name: convert(value) for name, value in (layer.weights | layer.arguments).items()}


@functools.cache
def ours(name: str) -> list[np.ndarray]:
    """Outputs of our layer, which several tests compare with."""
    layer = ROWS[name]
    return [np.asarray(out) for out in jax.jit(layer.run_ours)(values_of(layer, jnp.asarray))]


def errors(actual, expected) -> dict[str, float]:
    pairs = enumerate(zip(actual, expected, strict=True))
    return {f"output {i}": relative_error(a, b) for i, (a, b) in pairs}


@pytest.mark.parametrize("name", ROWS)
def test_names_and_layouts_are_torchs(name):
    """`a/b/weight` is `a.b.weight`: nothing to map, to transpose or to reshape."""
    layer = ROWS[name]
    arguments = layer.call_arguments(layer.arguments)
    variables = jax.eval_shape(
        lambda key: layer.ours.init(key, *arguments, **layer.call_options(layer.arguments)),
        jax.random.key(0),
    )
    flat = flatten_dict(variables.get("params", {}) | variables.get("batch_stats", {}))
    found = {".".join(path): leaf.shape for path, leaf in flat.items()}
    assert found == {name: value.shape for name, value in layer.weights.items()}
    twin = {name: tuple(value.shape) for name, value in layer.twin.state_dict().items()}
    assert twin == {name: tuple(value.shape) for name, value in layer.plain.state_dict().items()}


@pytest.mark.parametrize("name", ROWS)
def test_twin_is_torchs_layer(name):
    layer = ROWS[name]
    values = values_of(layer, torch.tensor)
    with torch.no_grad():
        assert (
            max(errors(layer.run_twin(values), layer.run_plain(values)).values())
            <= VALUE["float64"]
        )


@pytest.mark.parametrize(
    "name", [n if n in ONE_OF_EACH else pytest.param(n, marks=pytest.mark.slow) for n in ROWS]
)
def test_ours_is_torchs_layer(name, record_property):
    layer = ROWS[name]
    found = errors(ours(name), layer.run_plain(values_of(layer, torch.tensor)))
    record(record_property, f"torch.nn: {name}", "values", found, "float64", VALUE["float64"])


@pytest.mark.parametrize(
    ("layer", "dtype"),
    [(layer, "float64") for layer in SETTINGS]
    + [pytest.param(layer, "float32", marks=pytest.mark.slow) for layer in SETTINGS]
    + [pytest.param(layer, "float64", marks=pytest.mark.slow) for layer in MORE],
    ids=lambda value: getattr(value, "name", value),
)
def test_settings(layer, dtype, record_property):
    values, gradients = compare_function(layer.case(), dtype)
    record(record_property, layer.name, "values", values, dtype, VALUE[dtype])
    record(record_property, layer.name, "gradients", gradients, dtype, GRADIENT[dtype])


def test_state_dict_without_a_batch_counter_loads():
    """Torch's `num_batches_tracked` has no counterpart; a state_dict may leave it out."""
    layer = ROWS["norm batch train, rows"]
    state = values_of(layer, torch.tensor)
    torch.nn.BatchNorm1d(4).load_state_dict({name: state[name] for name in layer.weights})


def _reordered(*order: int) -> Callable:
    """Stacks the gates in another order."""

    def mutate(values):
        def permuted(value):
            gates = value.chunk(len(order))
            return torch.cat([gates[i] for i in order])

        return {
            n: permuted(v) if n.startswith(("weight", "bias")) else v for n, v in values.items()
        }

    return mutate


def _on(name: str, change: Callable) -> Callable:
    """Changes one of the twin's arrays."""
    return lambda values: {**values, name: change(values[name])}


def _merged_biases(values):
    """One bias where PyTorch has two: right for every gate but n of the GRU."""
    out = dict(values)
    for name in values:
        if name.startswith("bias_ih"):
            other = name.replace("ih", "hh")
            out[name], out[other] = values[name] + values[other], torch.zeros_like(values[other])
    return out


def _interleaved(weight):
    """The outputs of two groups taken in turns."""
    return torch.stack(weight.chunk(2), 1).flatten(0, 1)


def _swapped_states(values):
    return {**values, "initial": values["cells"], "cells": values["initial"]}


GRU = "gru, 2 layers, both ways, initial, lengths"
LSTM = "lstm, 2 layers, both ways, initial, lengths"

# row -> what is done to the twin's arrays
VALUE_MUTATIONS = {
    "gates z, r, n": ("gru, 3 layers", _reordered(1, 0, 2)),
    "biases merged": ("gru, 3 layers", _merged_biases),
    "gates i, f, o, g": ("lstm, 1 layer, initial, bias False", _reordered(0, 1, 3, 2)),
    "states (c, h)": ("lstm, 1 layer, initial, bias False", _swapped_states),
    "lengths ignored": (GRU, _on("lengths", lambda lengths: torch.full_like(lengths, 5))),
    "lengths off by one": (LSTM, _on("lengths", lambda lengths: (lengths + 1).clamp(max=5))),
    "directions swapped": (GRU, _on("initial", lambda states: states[[1, 0, 3, 2]])),
    "mask inverted": ("attention masked heads", _on("mask", torch.logical_not)),
    "mask of keys on queries": (
        "attention masked heads",
        _on("mask", lambda mask: mask.roll(1, -2)),
    ),
    "out_proj transposed": (
        "attention to itself",
        _on("out_proj.weight", lambda weight: weight.T),
    ),
    "key before query": (
        "attention to itself",
        _on("in_proj_weight", lambda weight: weight[[*range(6, 12), *range(6), *range(12, 18)]]),
    ),
    "kernel not reversed": (
        "conv transpose 2d k3 s2 p1 op1 d1",
        _on("weight", lambda weight: weight.flip(2, 3)),
    ),
    "kernel's axes swapped": ("conv 2d", _on("weight", lambda weight: weight.mT)),
    "groups interleaved": ("conv 2d, groups", _on("weight", _interleaved)),
}


def worst_output(name: str, twin_outputs: list[torch.Tensor]) -> float:
    return max(errors(ours(name), [out.detach() for out in twin_outputs]).values())


@pytest.mark.parametrize("mutation", VALUE_MUTATIONS)
def test_wrong_arrays_are_caught(mutation):
    name, mutate = VALUE_MUTATIONS[mutation]
    layer = ROWS[name]
    values = values_of(layer, torch.tensor)
    assert worst_output(name, layer.run_twin(values)) <= VALUE["float64"]
    assert worst_output(name, layer.run_twin(mutate(values))) > VALUE["float64"]


def _padded(twin: torch.nn.Module, *pads: int) -> torch.nn.Module:
    """Pads the channels-last input of a layer that has no padding of its own."""
    twin.register_forward_pre_hook(lambda module, args: (F.pad(args[0], (0, 0, *pads)),))
    return twin


SAME = twins.Conv(3, 4, (3, 3), stride=2)
EVEN = twins.Conv(3, 4, (4,), dilation=3)

# row -> a twin that is wrong
TWIN_MUTATIONS = {
    # what XLA and Flax call "SAME": (0, 1) where torch's padding=1 is (1, 1)
    "one shifted pad": ("conv 2d, stride 2 on an even size", _padded(SAME, 0, 1, 0, 1)),
    "same with the extra zero in front": ("conv 1d same, even kernel", _padded(EVEN, 5, 4)),
    "Linen's eps": ("norm layer", twins.LayerNorm(6, eps=1e-6)),
    "Linen's momentum": ("norm batch train, rows", twins.BatchNorm(4, momentum=0.9)),
    "channel fastest": ("flatten 2 axes", torch.nn.Flatten()),
}


@pytest.mark.parametrize("mutation", TWIN_MUTATIONS)
def test_wrong_layers_are_caught(mutation):
    name, twin = TWIN_MUTATIONS[mutation]
    layer = replace(ROWS[name], twin=twin)
    assert worst_output(name, layer.run_twin(values_of(layer, torch.tensor))) > VALUE["float64"]


def test_biased_running_variance_is_caught():
    name = "norm batch train, rows"
    layer = ROWS[name]
    values = values_of(layer, torch.tensor)
    y, mean, variance = layer.run_twin(values)
    kept, count = 0.9 * values["running_var"], len(values["x"])
    biased = kept + (variance - kept) * (count - 1) / count
    assert worst_output(name, [y, mean, biased]) > VALUE["float64"]


def test_other_dropout_key_is_caught():
    (case,) = (case for case in FUNCTIONS if case.name == "dropout 0.3, train True")
    broken = replace(
        case,
        torch_fn=lambda values, key: case.torch_fn(values, random.fold_in(key, 1)),
        differentiable=False,
    )
    assert max(compare_function(broken, "float64")[0].values()) > VALUE["float64"]


def test_missing_weight_is_caught():
    layer = ROWS["attention to itself"]
    values = values_of(layer, torch.tensor)
    values["out_proj.weights"] = values.pop("out_proj.weight")
    with pytest.raises(KeyError):
        layer.run_plain(values)
