"""Names of lists, and what is said of weights that do not correspond."""

import ast
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob import interop

KEY, X = jax.random.key(0), jnp.ones((2, 3), jnp.float32)


class Blocks(nn.Module):
    """A list of layers in `setup`, which Linen names blocks_0, blocks_1, ..."""

    number: int = 3

    def setup(self):
        self.blocks = [nn.Dense(3) for _ in range(self.number)]

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class TorchBlocks(torch.nn.Module):
    def __init__(self, name="blocks", number=3, kind=torch.nn.ModuleList):
        super().__init__()
        setattr(self, name, kind([torch.nn.Linear(3, 3) for _ in range(number)]))


def params_of(model):
    return model.init(KEY, X)["params"]


@pytest.mark.parametrize(
    "kind",
    [torch.nn.ModuleList, lambda layers: torch.nn.Sequential(*layers),
     lambda layers: torch.nn.ModuleDict({str(i): layer for i, layer in enumerate(layers)})],
    ids=["ModuleList", "Sequential", "ModuleDict"],
)  # fmt: skip
def test_entries_of_lists_pair_by_themselves(kind):
    params = params_of(Blocks())
    module = interop.to_torch(params, TorchBlocks(kind=kind))
    for i in range(3):
        weight = module.blocks[str(i)] if hasattr(module.blocks, "keys") else module.blocks[i]
        np.testing.assert_array_equal(weight.weight.detach().T, params[f"blocks_{i}"]["kernel"])
    back = interop.from_torch(module, params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_a_layer_whose_name_has_a_number_keeps_it():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([])
            self.blocks_0 = torch.nn.Linear(3, 3)

    params = params_of(Blocks(1))
    module = interop.to_torch(params, Own())
    np.testing.assert_array_equal(module.blocks_0.weight.detach().T, params["blocks_0"]["kernel"])


def test_many_faults_are_counted_and_one_rename_mends_most():
    params = {"net": params_of(Blocks(9)), "extra": {"scale": jnp.ones(2, jnp.float32)}}
    module = torch.nn.Module()
    module.body = TorchBlocks("blocks", 9)
    with pytest.raises(ValueError, match="do not correspond") as caught:
        interop.to_torch(params, module)
    message = str(caught.value)
    assert "... and" in message
    assert message.count("\n  ") <= 13
    assert "this pairs 9 layers:\n  rename={'net': 'body'}" in message


def test_a_constant_in_a_buffer_and_a_missing_cast_are_named():
    module = TorchBlocks()
    module.register_buffer("mask", torch.ones(3, 3))
    with pytest.raises(ValueError, match=r"(?s)mask \(PyTorch buffer\).*persistent=False"):
        interop.to_torch(params_of(Blocks()), module)
    with pytest.raises(ValueError, match=r"(?s)Flax has float32 throughout, PyTorch float64"):
        interop.to_torch(params_of(Blocks()), TorchBlocks().double())


@pytest.mark.parametrize(
    ("cell", "layer"),
    [
        (nn.OptimizedLSTMCell, torch.nn.LSTM),
        (nn.GRUCell, torch.nn.GRU),
        (nn.SimpleCell, torch.nn.RNN),
    ],
)
def test_unnamed_cells_are_given_the_rename_to_their_directions(cell, layer):
    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            there = nn.RNN(cell(5))(x)
            back = nn.RNN(cell(5), reverse=True, keep_order=True)(x)
            return nn.RNN(cell(4), name="top")(jnp.concatenate([there, back], -1))

    class TorchTagger(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.both = layer(3, 5, bidirectional=True, batch_first=True)
            self.top = layer(10, 4, batch_first=True)

    params = Tagger().init(KEY, jnp.ones((2, 6, 3), jnp.float32))["params"]
    with pytest.raises(ValueError, match="which is which:") as caught:
        interop.from_torch(TorchTagger(), params)
    message = str(caught.value)
    rename = ast.literal_eval(re.search(r"rename=(\{.*?\})", message)[1])
    made = interop.from_torch(TorchTagger(), params, rename=rename)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
    assert "both.l0_reverse" in rename.values()


def test_a_norm_by_hand_pairs_with_linens_scale():
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.arange(3.0))

    params = nn.RMSNorm().init(KEY, X)["params"]
    np.testing.assert_array_equal(interop.from_torch(Norm(), params)["scale"], [0.0, 1.0, 2.0])
    linear = nn.Dense(3).init(KEY, X)["params"]
    with pytest.raises(ValueError, match="do not correspond"):
        interop.from_torch(Norm(), linear)


def test_layers_of_one_shape_under_names_of_their_own_are_marked():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="a")(nn.Dense(3, name="z")(x))

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)

    with pytest.raises(ValueError, match="paired in the order of their names; swap them"):
        interop.from_torch(Twin(), params_of(Own()))
    with pytest.raises(ValueError, match="which is which") as caught:
        interop.from_torch(Twin(), {"Dense_0": params_of(Own())["a"],
                                    "Dense_1": params_of(Own())["z"]})  # fmt: skip
    assert "swap them" not in str(caught.value)
