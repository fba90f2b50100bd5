"""Weights on disk: both sides write, both sides read, nothing is half-written."""

import json
import os

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jaxprob import interop

X = jnp.ones((2, 6), jnp.float32)


class FlaxNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Dense(4, name="first")(x))
        return nn.Dense(4, name="last")(x)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


@pytest.fixture
def variables():
    shapes = jax.eval_shape(FlaxNet().init, jax.random.key(0), X)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 1.5, s.shape), s.dtype), shapes)


def test_params_come_back_to_the_last_bit(tmp_path, variables):
    for tree in (variables, variables["params"]):
        interop.save(tmp_path / "w.safetensors", tree)
        loaded = interop.load(tmp_path / "w.safetensors")
        chex.assert_trees_all_equal(loaded, tree)
        chex.assert_trees_all_equal_dtypes(loaded, tree)


def test_names_with_slashes_and_bfloat16_survive(tmp_path):
    params = {"a/b": {"c": jnp.ones((2, 3), jnp.bfloat16)}, "a": {"b": {"d": jnp.zeros(())}}}
    interop.save(tmp_path / "w.safetensors", params)
    chex.assert_trees_all_equal(interop.load(tmp_path / "w.safetensors"), params)


def test_a_flax_file_loads_in_torch(tmp_path, variables):
    interop.save(tmp_path / "w.safetensors", variables)
    module = TorchNet().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = interop.load_for_torch(tmp_path / "w.safetensors", module)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), "loading must not touch the module"
    module.load_state_dict(state)
    out = module(torch.tensor(np.array(X))).detach().numpy()
    np.testing.assert_allclose(FlaxNet().apply(variables, X), out, rtol=1e-5, atol=1e-6)


def test_a_torch_file_loads_in_flax_and_in_torch(tmp_path, variables):
    module = interop.to_torch(variables, TorchNet())
    interop.save(tmp_path / "w.safetensors", module)
    chex.assert_trees_all_equal(interop.load(tmp_path / "w.safetensors", variables), variables)
    other = TorchNet()
    other.load_state_dict(interop.load_for_torch(tmp_path / "w.safetensors", other))
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    with pytest.raises(ValueError, match="pass example="):
        interop.load(tmp_path / "w.safetensors")


def test_the_manifest_says_the_layout(tmp_path, variables):
    interop.save(tmp_path / "w.safetensors", interop.to_torch(variables, TorchNet()))
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        manifest = json.loads(file.metadata()["jaxprob"])
    assert manifest["side"] == "torch"
    assert manifest["layers"] == {"first": "Linear", "norm": "BatchNorm", "last": "Linear"}
    assert "weight = kernel transposed" in manifest["layout"]["first"]


def test_files_of_others_are_refused_with_a_way_out(tmp_path):
    save_file(TorchNet().state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="no jaxprob manifest.*interop.from_torch"):
        interop.load(tmp_path / "w.safetensors")


def test_wrong_structures_are_listed(tmp_path, variables):
    interop.save(tmp_path / "w.safetensors", variables)
    smaller = {"params": {"first": variables["params"]["first"]}}
    with pytest.raises(ValueError, match="params/last/kernel: expected nothing, the file has"):
        interop.load(tmp_path / "w.safetensors", smaller)
    with pytest.raises(ValueError, match="first/kernel .Flax. is .4, 6. float32"):
        interop.load_for_torch(tmp_path / "w.safetensors", _wider())


def _wider():
    module = TorchNet()
    module.first = torch.nn.Linear(7, 4)
    return module


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "at least one array"),
        ([1.0], "nested dict"),
        ({"a": 1.0}, "a is a float"),
        ({"key": jax.random.key(0)}, "random key"),
    ],
)
def test_what_cannot_be_saved_says_so(tmp_path, params, message):
    with pytest.raises(ValueError, match=message):
        interop.save(tmp_path / "w.safetensors", params)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(tmp_path, variables, monkeypatch):
    path = tmp_path / "w.safetensors"
    interop.save(path, variables)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        interop.save(path, jax.tree.map(jnp.zeros_like, variables))
    monkeypatch.undo()
    chex.assert_trees_all_equal(interop.load(path), variables)
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_64_bit_files_need_64_bit_jax(tmp_path):
    interop.save(tmp_path / "w.safetensors", {"a": np.ones(2)})
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        interop.load(tmp_path / "w.safetensors")
