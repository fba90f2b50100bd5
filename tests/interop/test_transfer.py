"""Weights between Flax and PyTorch: every bit, no alias, all or nothing."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import torch_ref.bayes
import torch_ref.supervised
from jaxprob.bayes import GaussianPosterior
from jaxprob.interop import from_torch, to_torch
from jaxprob.objectives import GaussianPrior
from jaxprob.supervised import GaussianRegressor

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)


def init(model):
    """Float32 params of a Linen model, away from the zeros that biases start at."""
    params = model.init(KEY, X)["params"]
    return jax.tree.map(lambda w: jax.random.normal(KEY, w.shape, jnp.float32), params)


def regressor():
    module = torch_ref.supervised.GaussianRegressor(3, (4, 4), features=2, homoscedastic=True)
    return init(GaussianRegressor((4, 4), features=2, homoscedastic=True)), module


def sequential():
    flax_model = nn.Sequential([nn.Dense(4), nn.sigmoid, nn.Sequential([nn.Dense(2)])])
    nested = torch.nn.Sequential(torch.nn.Linear(4, 2))
    return init(flax_model), torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid(), nested)


def posterior(covariance):
    prior = {"trainable": ("loc", "scale")}
    flax_q = GaussianPosterior(GaussianRegressor((4,)), X, covariance, GaussianPrior(**prior))
    torch_q = torch_ref.bayes.GaussianPosterior(
        torch_ref.supervised.GaussianRegressor(3, (4,)),
        covariance,
        torch_ref.objectives.GaussianPrior(**prior),
    )
    return flax_q.init(KEY), torch_q


CASES = {
    "GaussianRegressor": regressor,
    "Sequential": sequential,
    "GaussianPosterior by layer": lambda: posterior("layer"),
    "GaussianPosterior diagonal": lambda: posterior("diagonal"),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_round_trips_keep_every_bit(case, dtype):
    params, module = CASES[case]()
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    module = module.to(getattr(torch, dtype))
    # PyTorch -> JAX -> PyTorch
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    shapes = jax.eval_shape(lambda: params)
    there = from_torch(module, shapes)
    chex.assert_trees_all_equal_shapes_and_dtypes(there, params)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(torch.nan)
    assert to_torch(there, module) is module
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]), name
    # JAX -> PyTorch -> JAX
    chex.assert_trees_all_equal(from_torch(to_torch(params, module), shapes), params)
    assert all(p.requires_grad and p.is_leaf for p in module.parameters())


def test_outputs_agree_after_the_transfer():
    params, module = sequential()
    flax_model = nn.Sequential([nn.Dense(4), nn.sigmoid, nn.Sequential([nn.Dense(2)])])
    out = to_torch(params, module)(torch.tensor(np.array(X))).detach().numpy()
    np.testing.assert_allclose(flax_model.apply({"params": params}, X), out, rtol=1e-5, atol=1e-6)


def test_a_square_kernel_is_transposed():
    kernel = jnp.arange(9.0, dtype=jnp.float32).reshape(3, 3)
    params = {"kernel": kernel, "bias": jnp.asarray([1.0, 2.0, 3.0], jnp.float32)}
    module = to_torch(params, torch.nn.Linear(3, 3))
    np.testing.assert_array_equal(module.weight.detach().numpy(), kernel.T)
    out = module(torch.tensor(np.array(X))).detach().numpy()
    np.testing.assert_allclose(nn.Dense(3).apply({"params": params}, X), out, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(from_torch(module, params), params)


class Scaled(torch.nn.Module):
    """A number and a square matrix that is not a linear layer's, next to one that is."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.5))
        self.kernel = torch.nn.Parameter(torch.arange(4.0).reshape(2, 2))
        self.out = torch.nn.Linear(2, 1)


def test_single_numbers_and_bare_kernels_keep_their_layout():
    module = Scaled()
    out = {"kernel": jnp.zeros((2, 1), jnp.float32), "bias": jnp.zeros(1, jnp.float32)}
    example = {"scale": jnp.zeros((), jnp.float32), "kernel": jnp.zeros((2, 2), jnp.float32)}
    params = from_torch(module, {**example, "out": out})
    assert (params["scale"].shape, float(params["scale"])) == ((), 2.5)
    np.testing.assert_array_equal(params["kernel"], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(params["out"]["kernel"], module.out.weight.detach().numpy().T)
    to_torch(params | {"scale": jnp.asarray(-1.0, jnp.float32)}, module)
    assert module.scale.shape == ()
    assert module.scale.item() == -1.0


def test_nothing_is_shared():
    params, module = regressor()
    kept = jax.tree.map(np.array, params)
    writable = jax.tree.map(np.array, params)
    to_torch(writable, module)
    arrived = from_torch(module, params)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    for tree in (writable, arrived):
        chex.assert_trees_all_equal(tree, kept)
    to_torch(params, module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    chex.assert_trees_all_equal(params, kept)
    to_torch(writable, module)
    jax.tree.map(lambda leaf: leaf.fill(7.0), writable)
    chex.assert_trees_all_equal(from_torch(module, params), kept)


def broken():
    """Params with one fault of each kind for the module of `regressor`."""
    params, module = regressor()
    first, head = params["backbone"]["hidden_0"], params["head"]
    first["weight"] = first.pop("kernel").T  # a second name for a linear layer's weight
    del params["backbone"]["hidden_1"]["bias"]  # missing
    head["extra"] = jnp.zeros(2)
    head["out"]["kernel"] = head["out"]["kernel"].T
    head["out"]["bias"] = head["out"]["bias"].astype(jnp.float64)
    first["kernel"] = first["weight"].T
    return params, module


@pytest.mark.parametrize("direction", ["to_torch", "from_torch"])
def test_all_faults_come_in_one_message_and_nothing_is_written(direction):
    params, module = broken()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with pytest.raises(ValueError, match=f"{direction}: 5 parameters do not correspond") as caught:
        to_torch(params, module) if direction == "to_torch" else from_torch(module, params)
    message = str(caught.value)
    for fault in (
        "backbone/hidden_0/kernel (Flax) has no counterpart 'backbone.hidden_0.kernel'",
        "backbone.hidden_1.bias (PyTorch) has no counterpart in the params",
        "head/extra (Flax) has no counterpart 'head.extra' in the module",
        "head/out/kernel (Flax) is (4, 2) float32 in PyTorch's layout, but head.out.weight is "
        "(2, 4) float32",
        "head/out/bias (Flax) is (2,) float64 in PyTorch's layout, but head.out.bias is (2,) "
        "float32",
        "nothing was copied",
        "Give both models the same architecture, attribute names and dtype",
    ):
        assert fault in message
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_kernel_keeps_the_order_of_its_axes(dims):
    """All sizes are equal, so that no shape tells a transposition."""
    rng = np.random.default_rng(dims)
    model, module = nn.Conv(3, (3,) * dims, padding="VALID"), getattr(torch.nn, f"Conv{dims}d")
    module = module(3, 3, 3)
    kernel = rng.normal(size=(*(3,) * dims, 3, 3)).astype(np.float32)
    params = {"kernel": jax.device_put(kernel), "bias": jax.device_put(np.ones(3, np.float32))}
    to_torch(params, module)
    x = rng.normal(size=(2, *(4,) * dims, 3)).astype(np.float32)
    found = module(torch.tensor(x).movedim(-1, 1)).movedim(1, -1).detach().numpy()
    np.testing.assert_allclose(found, model.apply({"params": params}, x), rtol=1e-4, atol=1e-5)
