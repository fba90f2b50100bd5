"""A loss that follows a schedule sees the same number of steps on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import torch_ref.random as torch_random
from jaxprob import training
from parity_tests.engine import relative_error
from torch_ref import training as torch_training

RNG = np.random.default_rng(3)
DATA = {"x": RNG.normal(size=(10, 3)), "y": RNG.normal(size=10)}


def run_both(twin_uses_step=True):
    """Final weights of both sides, and the steps that the twin has seen."""
    w, seen = torch.ones(3, dtype=torch.float64, requires_grad=True), []

    def jax_loss(params, batch, key):
        error = jnp.mean((batch["x"] @ params["w"] - batch["y"]) ** 2)
        return error + batch["step"] / 4.0 * jnp.sum(params["w"] ** 2), {}

    def torch_loss(batch, key):
        step = batch.get("step", torch.tensor(0))
        seen.append(step)
        error = ((batch["x"] @ w - batch["y"]) ** 2).mean()
        return error + step / 4.0 * (w**2).sum(), {}

    jax_loss.uses_step, torch_loss.uses_step = True, twin_uses_step
    fitted = training.fit(
        jax_loss,
        {"w": jnp.ones(3, jnp.float64)},
        DATA,
        optimizer=optax.sgd(0.1, momentum=0.5),
        steps=7,
        batch_size=4,
        key=jax.random.key(2),
        progress=False,
    )
    torch_training.fit(
        torch_loss,
        {name: torch.from_numpy(values) for name, values in DATA.items()},
        optimizer=torch.optim.SGD([w], 0.1, momentum=0.5),
        steps=7,
        batch_size=4,
        key=torch_random.key(2),
    )
    return np.asarray(fitted.params["w"]), w.detach().numpy(), seen


def test_both_sides_count_the_same_steps():
    ours, twin, seen = run_both()
    assert relative_error(ours, twin) <= 1e-12
    assert [int(step) for step in seen] == list(range(7))
    assert seen[0].dtype == torch.int64


def test_a_side_that_does_not_count_is_caught():
    ours, twin, _ = run_both(twin_uses_step=False)
    assert relative_error(ours, twin) > 1e-3
