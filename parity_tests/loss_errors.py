"""Loss and terms of a model's row on both sides, for the tests that break the twin."""

import functools

import jax

import torch_ref.random as torch_random
from parity_tests.cases import MODELS as CASES
from parity_tests.engine import QUICK, SEED, batches, both_sides, torch_dtype, worst
from parity_tests.tolerances import MODELS

NAMED = {case.name: case for case in CASES}


@functools.cache
def ours(row):
    """Loss and metrics of our side."""
    with torch_dtype("float64"):
        params, _ = both_sides(NAMED[row], "float64")
        batch, _ = next(batches(NAMED[row], "float64", NAMED[row].num_rows))
    run = jax.jit(NAMED[row].jax_loss, compiler_options=QUICK)
    loss, metrics = run(params, batch, jax.random.key(SEED + 1))
    return {"loss": loss, **metrics}


def errors(row):
    """Errors of the twin as it is now."""
    with torch_dtype("float64"):
        _, module = both_sides(NAMED[row], "float64")
        _, batch = next(batches(NAMED[row], "float64", NAMED[row].num_rows))
        loss, metrics = NAMED[row].torch_loss(module)(batch, torch_random.key(SEED + 1))
    twins = {"loss": loss, **metrics}
    return worst(ours(row), {name: value.detach().numpy() for name, value in twins.items()})


def assert_caught(row, module, name, instead, monkeypatch):
    """Asserts that the row agrees, and no longer does with another `name` in the twin's module."""
    assert max(errors(row).values()) <= MODELS["value"]["float64"]
    monkeypatch.setattr(module, name, instead)
    assert max(errors(row).values()) > MODELS["value"]["float64"]
