"""What a transfer refuses, and that a refused transfer has written nothing."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob import interop
from jaxprob.interop import modules

X = jnp.ones((2, 3), jnp.float32)


def params_of(model, x=X):
    return model.init(jax.random.key(0), x)["params"]


class Tied(torch.nn.Module):
    """A decoder that shares the table of its embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.decode = torch.nn.Embedding(5, 3), torch.nn.Linear(3, 5, bias=False)
        self.decode.weight = self.embed.weight


def test_tied_weights_need_one_leaf():
    table = jnp.ones((5, 3), jnp.float32)
    module = interop.to_torch({"embed": {"embedding": table}}, Tied())
    assert module.decode.weight is module.embed.weight
    np.testing.assert_array_equal(module.embed.weight.detach(), table)
    two = {"embed": {"embedding": table}, "decode": {"kernel": table.T}}
    with pytest.raises(ValueError, match="embed.weight and decode.weight .* one tied tensor"):
        interop.to_torch(two, Tied())


def test_tied_weights_reach_both_names_from_a_file(tmp_path):
    interop.save(tmp_path / "w.safetensors", {"embed": {"embedding": jnp.ones((5, 3), "float32")}})
    state = interop.load_for_torch(tmp_path / "w.safetensors", Tied())
    assert set(state) == {"embed.weight", "decode.weight"}
    Tied().load_state_dict(state)


class WithBuffer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(3, 2)
        self.register_buffer("offset", torch.zeros(2))


def test_an_extra_buffer_is_named():
    params = {"out": params_of(nn.Dense(2))}
    module = WithBuffer()
    before = module.out.weight.detach().clone()
    with pytest.raises(ValueError, match=r"offset \(PyTorch buffer\) has no counterpart"):
        interop.to_torch(params, module)
    assert torch.equal(module.out.weight, before)
    trained = {**params, "offset": jnp.zeros(2, jnp.float32)}
    with pytest.raises(ValueError, match=r"offset \(Flax\) is trainable, but offset is a buffer"):
        interop.to_torch(trained, module)


def test_running_statistics_left_behind_are_asked_for():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(3)

    variables = nn.BatchNorm(use_running_average=True).init(jax.random.key(0), X)
    with pytest.raises(ValueError, match=r"(?s)norm.running_var .*batch_stats"):
        interop.to_torch({"norm": variables["params"]}, Net())


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (torch.nn.Linear(3, 2).half(), r"\(2, 3\) float32 in PyTorch's layout.*\(2, 3\) float16"),
        (torch.nn.Linear(4, 2), r"\(2, 3\) float32 in PyTorch's layout, but weight is \(2, 4\)"),
        (torch.nn.Linear(3, 2, device="meta"), "on one device and hold values; got weight on meta"),
        (torch.nn.Linear(3, 2, bias=False), r"bias \(Flax\) has no counterpart"),
        (torch.nn.Conv1d(3, 2, 1), "2, 3, 1"),
    ],
)
def test_mismatches_are_refused_in_both_directions(module, message):
    params = params_of(nn.Dense(2))
    for transfer in (interop.to_torch, lambda p, m: interop.from_torch(m, p)):
        with pytest.raises(ValueError, match=message):
            transfer(params, module)


def test_two_devices_are_refused():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1, device="meta"))
    with pytest.raises(ValueError, match=re.escape("0.weight on cpu, 1.weight on meta")):
        interop.to_torch({}, module)


def test_other_names_get_a_map_to_use():
    class Flax(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4)(x)
            return nn.Dense(2)(x)

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)

    params = params_of(Flax())
    with pytest.raises(ValueError, match="do not correspond") as caught:
        interop.to_torch(params, Torch())
    rename = {"Dense_0": "fc1", "Dense_1": "fc2"}
    assert f"rename={rename!r}" in str(caught.value)
    module = interop.to_torch(params, Torch(), rename=rename)
    np.testing.assert_array_equal(module.fc2.weight.detach().T, params["Dense_1"]["kernel"])


class Gain(torch.nn.Module):
    """A layer that nobody knows."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2, 3))


def test_own_layers_are_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(modules, "_REGISTERED", {})
    params = {"layer": {"kernel": jnp.arange(6.0, dtype=jnp.float32).reshape(3, 2)}}
    module = torch.nn.Module()
    module.layer = Gain()
    with pytest.raises(ValueError, match="no counterpart 'layer.kernel'"):
        interop.to_torch(params, module)

    def turn(values, shapes):
        return [values[0].T]

    interop.register(Gain, [interop.Rule(("kernel",), ("w",), turn, turn)])
    interop.to_torch(params, module)
    np.testing.assert_array_equal(module.layer.w.detach().T, params["layer"]["kernel"])
    back = interop.from_torch(module, params)
    np.testing.assert_array_equal(back["layer"]["kernel"], params["layer"]["kernel"])
    interop.save(tmp_path / "w.safetensors", module)
    loaded = interop.load(tmp_path / "w.safetensors", params)
    np.testing.assert_array_equal(loaded["layer"]["kernel"], params["layer"]["kernel"])
    with pytest.raises(TypeError, match="expected a class"):
        interop.register("Gain", [])


T = torch.nn
REFUSED = {
    "add_zero_attn": (T.MultiheadAttention(4, 2, add_zero_attn=True), "add_zero_attn=True"),
    "replicate": (T.Conv1d(2, 2, 3, padding=1, padding_mode="replicate"), "jnp.pad"),
    "max_norm": (T.Embedding(3, 2, max_norm=1.0), "max_norm=1.0"),
    "scale_grad_by_freq": (T.Embedding(3, 2, scale_grad_by_freq=True), "scale_grad_by_freq"),
    "momentum": (T.BatchNorm1d(2, momentum=None), "momentum=None"),
    "lazy": (T.LazyLinear(2), "has no shapes yet: call the module on an example"),
}


@pytest.mark.parametrize("option", REFUSED)
def test_options_that_no_layer_of_flax_has_are_refused(option, tmp_path):
    layer, words = REFUSED[option]
    module = torch.nn.Sequential(layer)
    for action in (
        lambda: interop.to_torch({"layers_0": {"w": jnp.ones(2)}}, module),
        lambda: interop.from_torch(module, {"layers_0": {"w": jnp.ones(2)}}),
        lambda: interop.save(tmp_path / "w", module),
    ):
        with pytest.raises(ValueError, match="no layer of Flax computes") as caught:
            action()
        assert words in str(caught.value)
        assert f"0 ({type(layer).__name__})" in str(caught.value)


def test_padding_that_is_no_weight_warns():
    module = torch.nn.Conv1d(2, 3, 3, padding=1, padding_mode="circular")
    params = params_of(nn.Conv(3, (3,), padding="CIRCULAR"), jnp.ones((1, 5, 2), jnp.float32))
    with pytest.warns(UserWarning, match="needs padding='CIRCULAR'"):
        interop.to_torch(params, module)
