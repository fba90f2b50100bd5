"""Weights on disk: both sides write, both sides read, nothing is half-written."""

import dataclasses
import json
import os
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jaxprob import interop

X = jnp.ones((2, 6), jnp.float32)
ONE = jnp.ones(())
DTYPES = ("bool", "bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "int64",
          "uint8", "uint16", "uint32", "uint64")  # fmt: skip


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
        ([1.0], r"\[0\] is a float, not an array"),
        ({"a": 1.0}, "a is a float"),
        ({"a/b": ONE, "a": {"b": ONE}}, "two leaves have the name 'a/b'"),
        ({"__metadata__": ONE}, "'__metadata__' is reserved"),
        ({"a": {"w": jnp.ones(2, jnp.float8_e4m3fn)}}, "a/w is float8_e4m3fn, which safetensors"),
        ({"a": jnp.ones(2, jnp.int4)}, "a is int4, which safetensors cannot read back"),
        ({"a": jnp.ones(2, complex)}, "a is complex128"),
        (torch.nn.ParameterDict({"a": torch.ones(2, dtype=torch.complex64)}), "a is torch.complex"),
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_from_both_sides(tmp_path, dtype):
    values = np.arange(6).reshape(2, 3) % 2
    params = {"a": {"w": jnp.asarray(values).astype(dtype)}, "none": jnp.zeros((0, 2), dtype)}
    interop.save(tmp_path / "w", params)
    loaded = interop.load(tmp_path / "w")
    chex.assert_trees_all_equal(loaded, params)
    chex.assert_trees_all_equal_dtypes(loaded, params)
    module = torch.nn.Module()
    module.register_buffer("w", torch.tensor(values).to(getattr(torch, dtype)))
    interop.save(tmp_path / "w", module)
    state = interop.load_for_torch(tmp_path / "w", module)
    assert state["w"].dtype == module.w.dtype
    assert torch.equal(state["w"], module.w)


class Inner(NamedTuple):
    matrix: Any
    scales: tuple


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Outer:
    mean: Any
    inner: Inner


def test_any_pytree_of_arrays_comes_back(tmp_path):
    """Named tuples, dataclasses, tuples, lists, None, keys that are numbers; and optax states."""
    state = Outer({1: jnp.ones((2, 3)), 0: ONE}, Inner(None, (jnp.arange(3), [ONE, 2 * ONE])))
    optimizer = optax.adam(1e-3).init({"w": jnp.ones(2)})
    for tree in (state, optimizer, {"a": None, "b": ONE}, (ONE, {"a": ONE})):
        interop.save(tmp_path / "w", tree)
        empty = jax.eval_shape(lambda: tree)  # noqa: B023
        loaded = interop.load(tmp_path / "w", empty)
        assert jax.tree.structure(loaded) == jax.tree.structure(tree)
        chex.assert_trees_all_equal(loaded, tree)
    with pytest.raises(ValueError, match="pass example=, a value of the same structure"):
        interop.load(tmp_path / "w")
    with pytest.raises(ValueError, match=r"\[1\]\['a'\]: expected nothing, the file has"):
        interop.load(tmp_path / "w", (ONE,))
    with pytest.raises(ValueError, match="no module corresponds to it"):
        interop.load_for_torch(tmp_path / "w", TorchNet())


def test_empty_branches_come_back(tmp_path):
    params = {"a": {}, "b": {"c": {}, "d": ONE}}
    interop.save(tmp_path / "w", params)
    chex.assert_trees_all_equal(interop.load(tmp_path / "w"), params)


def test_every_flipped_byte_is_refused_with_the_path(tmp_path):
    path = tmp_path / "w.safetensors"
    interop.save(path, {"a": {"w": jnp.arange(4.0)}, "b": jnp.ones(2, jnp.bfloat16)})
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="w.safetensors"):
            interop.load(path)
    for size in (0, 4, 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="w.safetensors is damaged"):
            interop.load(path)
        with pytest.raises(ValueError, match="w.safetensors is damaged"):
            interop.load_for_torch(path, TorchNet())
    path.write_bytes(whole)
    interop.load(path)


def test_files_without_a_hash_are_read(tmp_path):
    """As version 1 wrote them."""
    manifest = {"version": 1, "side": "flax", "bare": True, "paths": {"a": ["params", "a"]}}
    metadata = {"format": "jaxprob", "jaxprob": json.dumps(manifest)}
    save_file({"a": torch.ones(2)}, tmp_path / "w", metadata)
    np.testing.assert_array_equal(interop.load(tmp_path / "w")["a"], np.ones(2))


def test_a_file_has_the_mode_of_any_new_file(tmp_path):
    path, other = tmp_path / "w", tmp_path / "plain"
    before = os.umask(0o027)
    try:
        interop.save(path, {"a": ONE})
        other.write_bytes(b"")
        assert path.stat().st_mode == other.stat().st_mode
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        interop.save(path, {"a": ONE})
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)
