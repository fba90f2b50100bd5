"""A loss that follows a schedule sees the same number of steps on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torch_ref.random as torch_random
from jaxprob import objectives, training, vae
from jaxprob.objectives.annealing import final_weight
from parity_tests.engine import relative_error
from parity_tests.weights import drawn, to_module, to_params
from torch_ref import objectives as torch_objectives
from torch_ref import training as torch_training
from torch_ref import vae as torch_vae
from torch_ref.objectives.annealing import final_weight as torch_final_weight

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


SCHEDULES = {
    "linear": lambda module: module.linear_annealing(50, 0.1, 0.7),
    "cyclical": lambda module: module.cyclical_annealing(7, 0.3, 0.0, 0.9),
    "its own": lambda module: lambda step: (step % 50) / 49,
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_both_sides_validate_at_the_weight_at_which_a_schedule_ends(schedule):
    ours = final_weight(schedule(objectives), "ours")
    twin = torch_final_weight(schedule(torch_objectives), "twin")
    assert relative_error(np.asarray(ours), np.asarray(twin)) <= 1e-12
    early = schedule(torch_objectives)(torch.tensor(1))
    assert abs(float(early) - float(ours)) > 1e-2  # the weight of a step would be caught


@pytest.mark.parametrize("end", [final_weight, torch_final_weight], ids=["ours", "twin"])
def test_a_schedule_that_never_ends_is_refused_on_both_sides(end):
    with pytest.raises(ValueError, match="here: .*final"):
        end(lambda step: step / 1000, "here")


def test_the_bound_in_prediction_has_that_weight_on_both_sides():
    """The twin's module knows its mode; ours is the loss for validation."""
    x = (RNG.normal(size=(5, 3)) > 0).astype(np.float64)
    model = vae.DenseVAE(3, (4,), 2)
    arrays = drawn(model, x, jnp.zeros((5, 2)))
    params = to_params(arrays)
    tensors = {path: torch.from_numpy(array) for path, array in arrays.items()}
    module = to_module(tensors, torch_vae.DenseVAE(3, (4,), 2).double())
    ours = vae.negative_elbo(model, objectives.cyclical_annealing(7)).evaluate
    twin = torch_vae.negative_elbo(module.eval(), torch_objectives.cyclical_annealing(7))
    value, metrics = ours(params, {"x": x}, jax.random.key(3))
    other, others = twin({"x": torch.from_numpy(x)}, torch_random.key(3))
    assert relative_error(np.asarray(value), other.detach().numpy()) <= 1e-12
    assert float(metrics["beta"]) == float(others["beta"]) == 1.0
    module.train()
    early, _ = twin({"x": torch.from_numpy(x), "step": torch.tensor(1)}, torch_random.key(3))
    assert relative_error(np.asarray(value), early.detach().numpy()) > 1e-3
