"""A run that changes framework in the middle goes on as if nothing had happened."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from jaxprob import interop, optim
from parity_tests import tolerances
from parity_tests.engine import relative_error, torch_dtype

X = np.random.default_rng(0).normal(size=(8, 3))
Y = np.random.default_rng(1).normal(size=(8, 2))
MODEL = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(2)])

OPTIMIZERS = {
    "adam": (optim.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "amsgrad": (optim.adam(0.01, amsgrad=True), lambda p: torch.optim.Adam(p, 0.01, amsgrad=True)),
    "optax adam": (optax.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "sgd momentum": (optim.sgd(0.1, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
    "rmsprop centered": (
        optim.rmsprop(0.01, centered=True, momentum=0.5),
        lambda p: torch.optim.RMSprop(p, 0.01, centered=True, momentum=0.5),
    ),
    "optax rmsprop": (
        optax.rmsprop(0.01, decay=0.99, eps=1e-8, eps_in_sqrt=False, initial_scale=0.0),
        lambda p: torch.optim.RMSprop(p, 0.01),
    ),
    "nadam": (optim.nadam(0.01), lambda p: torch.optim.NAdam(p, 0.01)),
    "rprop": (optim.rprop(0.01), lambda p: torch.optim.Rprop(p, 0.01)),
    "adadelta": (optim.adadelta(), lambda p: torch.optim.Adadelta(p)),
    "adagrad": (optim.adagrad(), lambda p: torch.optim.Adagrad(p)),
}


def loss(params):
    return jnp.mean((MODEL.apply({"params": params}, X) - Y) ** 2)


def jax_steps(params, state, transformation, steps):
    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def torch_steps(module, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        torch.mean((module(torch.tensor(X)) - torch.tensor(Y)) ** 2).backward()
        optimizer.step()


def start():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    params = MODEL.init(jax.random.key(0), X)["params"]
    params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    return params, interop.to_torch(params, module)


def gap(params, module):
    there = interop.from_torch(module, params)
    return max(jax.tree.leaves(jax.tree.map(relative_error, params, there)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_runs_continue_in_the_other_framework(name):
    transformation, build = OPTIMIZERS[name]
    with torch_dtype("float64"):
        # torch first, then JAX; the same torch run goes on for comparison
        params, module = start()
        optimizer = build(module.parameters())
        torch_steps(module, optimizer, 5)
        params = interop.from_torch(module, params)
        example = transformation.init(params)
        state = interop.optimizer_from_torch(optimizer, module, example, params, step=5)
        assert jax.tree.structure(state) == jax.tree.structure(example)
        params, state = jax_steps(params, state, transformation, 5)
        torch_steps(module, optimizer, 5)
        assert gap(params, module) <= tolerances.MODELS["training"]["float64"]

        # JAX first, then torch, in a fresh optimiser
        params, state = jax_steps(params, state, transformation, 5)
        interop.to_torch(params, module)
        fresh = interop.optimizer_to_torch(
            state, params, module, build(module.parameters()), step=15
        )
        params, _ = jax_steps(params, state, transformation, 5)
        torch_steps(module, fresh, 5)
        assert gap(params, module) <= tolerances.MODELS["training"]["float64"]


def test_a_forgotten_state_would_be_noticed():
    transformation, build = OPTIMIZERS["adam"]
    with torch_dtype("float64"):
        params, module = start()
        optimizer = build(module.parameters())
        torch_steps(module, optimizer, 5)
        params = interop.from_torch(module, params)
        params, _ = jax_steps(params, transformation.init(params), transformation, 5)
        torch_steps(module, optimizer, 5)
        assert gap(params, module) > 1e6 * tolerances.MODELS["training"]["float64"]


def test_other_algorithms_are_refused():
    with torch_dtype("float64"):
        params, module = start()
    optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    example = optim.adam(0.1).init(params)
    with pytest.raises(ValueError, match="no 'exp_avg' for .*same algorithm"):
        interop.optimizer_from_torch(optimizer, module, example, params, step=3)
    with pytest.raises(ValueError, match="does not hold 0.bias, 0.weight"):
        interop.optimizer_to_torch(
            example, params, module, torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
        )


def test_folded_biases_are_refused():
    model = nn.RNN(nn.GRUCell(2))
    params = model.init(jax.random.key(0), jnp.ones((1, 2, 3), jnp.float32))["params"]
    module = torch.nn.GRU(3, 2, batch_first=True)
    with pytest.raises(ValueError, match="folded into one bias"):
        interop.optimizer_to_torch(
            optim.adam().init(params), params, module, torch.optim.Adam(module.parameters())
        )
