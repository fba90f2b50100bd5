"""Flax Linen's first parameters and dropout masks, re-created in torch from the same seed."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.linen import initializers as flax_initializers
from flax.traverse_util import unflatten_dict

from parity_tests.test_random import DTYPES, require_equal, to_torch
from parity_tests.test_random_samplers import require_close_per_tensor
from parity_tests.tolerances import RANDOM
from tests.support.compilation import to_the_bit
from torch_ref import random as R
from torch_ref.random import initializers


class Encoder(nn.Module):
    """A nested module with every kind of layer that `linen_init_` knows."""

    dtype: str

    @nn.compact
    def __call__(self, image, token, train=False):
        own = self.param("own", flax_initializers.orthogonal(2.0), (4, 3, 5), self.dtype)
        other = self.param("other", flax_initializers.normal(0.3), (4, 3), self.dtype)
        table = nn.Embed(11, 5, name="table", param_dtype=self.dtype)(token)
        hidden = Block(self.dtype, name="block")(image)
        hidden = nn.Dropout(0.3, deterministic=not train)(hidden)
        return hidden.sum() + table.sum() + own.sum() + other.sum(), hidden


class Block(nn.Module):
    """The inner module."""

    dtype: str

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 2), name="conv", param_dtype=self.dtype)(x)
        x = nn.GroupNorm(2, name="norm", param_dtype=self.dtype)(x)
        return nn.Dense(7, name="out", param_dtype=self.dtype)(x)


class TorchEncoder(torch.nn.Module):
    """The twin, its attributes named as Linen names the modules."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(11, 5)
        self.block = torch.nn.Module()
        self.block.conv = torch.nn.Conv2d(3, 6, (3, 2))
        self.block.norm = torch.nn.GroupNorm(2, 6)
        self.block.out = torch.nn.Linear(6, 7)


IMAGE, TOKEN = jnp.ones((1, 8, 8, 3)), jnp.zeros(2, int)


@pytest.fixture(autouse=True)
def _float64():
    """64-bit types on both sides, and torch's default type as it was afterwards."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with jax.enable_x64(True):
        yield
    torch.set_default_dtype(default)


EAGER = """
import sys, jax, numpy as np
jax.config.update("jax_enable_x64", True)
from flax.traverse_util import flatten_dict
from parity_tests.test_random_linen import IMAGE, TOKEN, Encoder
params = Encoder(sys.argv[1]).init(jax.random.key(5), IMAGE, TOKEN)["params"]
np.savez(sys.argv[2], **flatten_dict(params, sep="/"))
"""
"""In a process of its own, where XLA compiles as it does for users."""


def eager_params(dtype, path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", EAGER, dtype, path], check=True, env=environment)
    return unflatten_dict(dict(np.load(path)), sep="/")


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("jit", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_nested_module(dtype, jit, tmp_path):
    if jit:
        want = jax.jit(Encoder(dtype).init)(jax.random.key(5), IMAGE, TOKEN)["params"]
    else:
        want = eager_params(dtype, tmp_path / "params.npz")
    root, type_ = R.key(5), to_torch(dtype)
    twin = R.linen_init_(TorchEncoder().to(type_), root, param_dtype=type_)
    conv, out = twin.block.conv, twin.block.out
    pairs = {
        "table": (twin.table.weight, want["table"]["embedding"]),
        "conv": (conv.weight.permute(2, 3, 1, 0), want["block"]["conv"]["kernel"]),
        "conv bias": (conv.bias, want["block"]["conv"]["bias"]),
        "norm": (twin.block.norm.weight, want["block"]["norm"]["scale"]),
        "out": (out.weight.T, want["block"]["out"]["kernel"]),
        "out bias": (out.bias, want["block"]["out"]["bias"]),
        "other": (
            initializers.normal(0.3)(R.param_key(root, "", 2), (4, 3), type_),
            want["other"],
        ),
    }
    for name, (got, expected) in pairs.items():
        require_close_per_tensor(got, expected, RANDOM["initial"][dtype])
        if not jit and dtype == "float32":
            assert (got.detach().numpy() == expected).all(), name
    own = initializers.orthogonal(2.0)(R.param_key(root, ()), (4, 3, 5), type_)
    require_close_per_tensor(own, want["own"], RANDOM["linear algebra"][dtype])


def test_float32_weights_cast_to_float64():
    """How a float64 model starts in this project: drawn in float32, then cast."""
    init = to_the_bit(Encoder("float32").init)
    want = init(jax.random.key(5), IMAGE, TOKEN)["params"]
    twin = R.linen_init_(TorchEncoder().double(), R.key(5))
    kernel = want["block"]["out"]["kernel"].astype(jnp.float64)
    require_equal(twin.block.out.weight.T.detach(), kernel)


def test_part_of_a_model():
    whole = R.linen_init_(TorchEncoder(), R.key(5))
    part = R.linen_init_(torch.nn.Linear(6, 7), R.key(5), path=("block", "out"))
    assert torch.equal(part.weight, whole.block.out.weight)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            initializers.variance_scaling(scale, mode, distribution),
            flax_initializers.variance_scaling(scale, mode, distribution),
        )
        for scale in (1.0, 1 / 3)
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("truncated_normal", "normal", "uniform")
    ],
)
def test_variance_scaling(ours, theirs):
    for dtype in DTYPES:
        want = theirs(jax.random.key(1), (3, 8, 5), dtype)
        got = ours(R.key(1), (3, 8, 5), to_torch(dtype))
        require_close_per_tensor(got, want, RANDOM["initial"][dtype])


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.OptimizedLSTMCell])
def test_recurrent_cells(cell):
    params = nn.RNN(cell(6), name="rnn").init(jax.random.key(2), jnp.ones((2, 3, 5), jnp.float32))[
        "params"
    ]
    for path, layer in params["cell"].items():
        kernel = layer["kernel"]
        init = initializers.orthogonal() if path[0] == "h" else initializers.lecun_normal()
        got = init(R.param_key(R.key(2), ("cell", path)), kernel.shape, torch.float32)
        require_close_per_tensor(got, kernel, RANDOM["linear algebra"]["float32"])


def test_dropout_mask():
    variables = Encoder("float32").init(jax.random.key(5), IMAGE, TOKEN)
    rngs = {"dropout": jax.random.key(9)}
    model = Encoder("float32")
    hidden = model.apply(variables, IMAGE, TOKEN)[1]
    dropped = model.apply(variables, IMAGE, TOKEN, train=True, rngs=rngs)[1]
    keep = R.bernoulli(R.fold_path(R.key(9), ("Dropout_0", 1)), 0.7, hidden.shape)
    require_equal(keep, (dropped != 0) | (hidden == 0))
    assert 0.6 < keep.double().mean() < 0.8


def test_unknown_layers_are_named():
    with pytest.raises(NotImplementedError, match="Bilinear"):
        R.linen_init_(torch.nn.Sequential(torch.nn.Bilinear(2, 3, 4)), R.key(0))
    with pytest.raises(ValueError, match="fan_in"):
        initializers.variance_scaling(1.0, "fan", "normal")
    with pytest.raises(ValueError, match="unknown"):
        initializers.variance_scaling(1.0, "fan_in", "cauchy")


def test_the_proof_has_teeth(monkeypatch):
    """Another path, another position, another fan: each gives weights the comparison refuses."""
    want = Encoder("float32").init(jax.random.key(5), IMAGE, TOKEN)["params"]["block"]["out"]
    init, tolerance = initializers.lecun_normal(), RANDOM["initial"]["float32"]

    def compare(path, position=1, init=init):
        got = init(R.param_key(R.key(5), path, position), (6, 7), torch.float32)
        require_close_per_tensor(got, want["kernel"], tolerance)

    compare("block/out")
    compare(("block", "out"))
    for wrong in [
        lambda: compare("out"),
        lambda: compare("block/out", 2),
        lambda: compare("block/out", 1, initializers.embedding()),
        lambda: compare("block/out", 1, initializers.normal(6**-0.5)),
    ]:
        with pytest.raises(AssertionError, match="exceeds"):
            wrong()
