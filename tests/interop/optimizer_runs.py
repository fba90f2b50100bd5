"""One layer trained along a given gradient in both frameworks, with a change in the middle."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxprob import interop

BAR = 1e-12
LR = 0.05
PARAMS = {"kernel": np.linspace(-1, 1, 12).reshape(4, 3), "bias": np.array([0.3, -0.2, 0.5])}


def gradient(params):
    """Some smooth gradient, alike on both sides."""
    return {
        k: np.sin(3 * np.asarray(p)) + 0.1 * np.cos(7 * np.asarray(p)) for k, p in params.items()
    }


def module_of(params):
    module = torch.nn.Linear(4, 3, dtype=torch.float64)
    return interop.to_torch(jax.tree.map(jnp.asarray, params), module)


def of_module(module):
    return {
        "kernel": module.weight.detach().numpy().T.copy(),
        "bias": module.bias.detach().numpy().copy(),
    }


def jax_run(transformation, params, state, steps):
    params = jax.tree.map(jnp.asarray, params)
    for _ in range(steps):
        updates, state = transformation.update(
            jax.tree.map(jnp.asarray, gradient(params)), state, params
        )
        params = optax.apply_updates(params, updates)
    return params, state


def torch_run(module, optimizer, steps):
    for _ in range(steps):
        wanted = gradient(of_module(module))
        if module.weight.requires_grad:
            module.weight.grad = torch.tensor(wanted["kernel"].T)
        if module.bias.requires_grad:
            module.bias.grad = torch.tensor(wanted["bias"])
        optimizer.step()


def assert_equal(params, module, what):
    there = of_module(module)
    for name, leaf in params.items():
        gap = np.max(np.abs(np.asarray(leaf) - there[name])) / np.max(np.abs(there[name]))
        assert gap <= BAR, (what, name, gap)


def to_torch_and_on(tx, params, state, make, steps, what, **arguments):
    module = module_of(params)
    optimizer = make(module)
    interop.optimizer_to_torch(state, params, module, optimizer, **arguments)
    params, _ = jax_run(tx, params, state, steps)
    torch_run(module, optimizer, steps)
    assert_equal(params, module, what)


def from_torch_and_on(tx, module, optimizer, steps, what, **arguments):
    params = jax.tree.map(jnp.asarray, of_module(module))
    example = tx.init(params)
    state = interop.optimizer_from_torch(optimizer, module, example, params, **arguments)
    assert jax.tree.structure(state) == jax.tree.structure(example)
    params, _ = jax_run(tx, params, state, steps)
    torch_run(module, optimizer, steps)
    assert_equal(params, module, what)
