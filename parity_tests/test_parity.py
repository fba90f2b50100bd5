"""Every row of `cases/`: values, gradients and training runs, float64 first, then float32."""

import pytest

from parity_tests.cases import (
    FUNCTIONS,
    MODELS,
    bayes,
    flows,
    point_estimates,
    supervised,
    vae,
    vae_discrete,
)
from parity_tests.engine import compare_function, compare_model, record
from parity_tests.tolerances import MODELS as MODELS_BOUNDS
from parity_tests.training_runs import compare_steps, compare_training

FITTED = [case for case in MODELS if case.fit]


def rows(cases, slow, short):
    """Rows in float64, the gate, those that take long marked; some in float32 too.

    Short floats are the second tier, which .ci/run runs.

    Args:
      cases: The rows.
      slow: case -> whether it is one of the longer proofs.
      short: case -> whether to run it in float32 too.
    """
    parameters = []
    for case in cases:
        marks = [pytest.mark.slow] if slow(case) else []
        parameters.append(pytest.param(case, "float64", marks=marks, id=f"{case.name}-float64"))
        if short(case):
            name = f"{case.name}-float32"
            parameters.append(pytest.param(case, "float32", marks=pytest.mark.slow, id=name))
    return parameters


def by_length(cases):
    """Rows that say themselves whether they take long; in float32 only those that do not."""
    return rows(cases, lambda case: case.slow or case.second, lambda case: not case.slow)


@pytest.mark.parametrize(("case", "dtype"), by_length(MODELS))
def test_model(case, dtype, record_property):
    values, gradients = compare_model(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    bound = MODELS_BOUNDS["gradient"][dtype]
    record(record_property, case.name, "gradients", gradients, dtype, bound)
    if dtype == "float64":
        bound = MODELS_BOUNDS["training"][dtype]
        errors = compare_steps(case, dtype)
        record(record_property, case.name, "100 steps of adam", errors, dtype, bound)


@pytest.mark.parametrize(
    ("case", "dtype"), rows(FITTED, lambda case: case.fit == "long", lambda case: True)
)
def test_model_fitted(case, dtype, record_property):
    check_training(case, "adam", dtype, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("case", FITTED, ids=lambda case: case.name)
def test_model_fitted_by_another_optimizer(case, record_property):
    check_training(case, "rmsprop", "float64", record_property)


def check_training(case, optimizer, dtype, record_property):
    # A smaller last batch is a second program to compile: one run for each kind of model has one.
    with_rest = optimizer == "adam" and dtype == "float64"
    size = 16 if with_rest else case.batch_size
    errors = compare_training(case, optimizer, dtype, batch_size=size)
    kind = f"100 steps of {optimizer} by fit"
    record(record_property, case.name, kind, errors, dtype, MODELS_BOUNDS["training"][dtype])


def test_each_kind_of_model_is_fitted():
    for family in (bayes, flows, point_estimates, supervised, vae, vae_discrete):
        assert any(case.fit for case in family.MODELS), family
    assert any(getattr(case.jax_loss, "uses_step", False) for case in FITTED)


@pytest.mark.parametrize(("case", "dtype"), by_length(FUNCTIONS))
def test_function(case, dtype, record_property):
    values, gradients = compare_function(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    if case.differentiable:
        bound = MODELS_BOUNDS["gradient"][dtype]
        record(record_property, case.name, "gradients", gradients, dtype, bound)
