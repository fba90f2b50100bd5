"""A right and a broken twin beside one program of ours, for the tests that break the twin."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax

import torch_ref.random as torch_random
from parity_tests.cases import MODELS as CASES
from parity_tests.engine import (
    QUICK,
    SEED,
    FunctionCase,
    batches,
    both_sides,
    compare_function,
    torch_dtype,
    worst,
)
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


def right_and_broken(right: FunctionCase, broken: FunctionCase) -> tuple[float, float]:
    """Returns the worst error of the values beside a right twin and beside a broken one, float64.

    A mistake is caught by a row only if the row agrees without it. Both twins stand beside one
    program, with the inputs of the first row.
    """

    def jax_fn(inputs: Mapping, key: Any) -> dict:
        found = right.jax_fn(inputs, key)
        return {f"{side} {name}": v for side in ("right", "broken") for name, v in found.items()}

    def torch_fn(inputs: Mapping, key: Any) -> dict:
        sides = {"right": right.torch_fn(inputs, key), "broken": broken.torch_fn(inputs, key)}
        return {f"{side} {name}": v for side, found in sides.items() for name, v in found.items()}

    both = dataclasses.replace(right, jax_fn=jax_fn, torch_fn=torch_fn, differentiable=False)
    errors, _ = compare_function(both, "float64")
    first, second = (
        max(error for name, error in errors.items() if name.startswith(side))
        for side in ("right ", "broken ")
    )
    return first, second
