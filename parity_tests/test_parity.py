"""Every row of `cases/`: values, gradients and training runs, float64 first, then float32."""

import pytest

from parity_tests.cases import FUNCTIONS, MODELS
from parity_tests.engine import (
    compare_function,
    compare_model,
    compare_training,
    record,
)
from parity_tests.tolerances import MODELS as MODELS_BOUNDS

# One training run for each kind of model; those of the other rows are longer proofs.
RUNS = {
    "posterior layer",
    "posterior diagonal, prior loc scale",
    "posterior diagonal, natural gradient",
    "variational layers full",
    "deep ensemble, adversarial, prior",
    "MC dropout",
    "gaussian regressor",
    "categorical classifier",
    "mixture density network",
    "dense VAE",
    "flow MAF, likelihood",
    "latent classes",
}
QUICK_RUNS = RUNS - {
    "posterior layer",
    "posterior diagonal, prior loc scale",
    "variational layers full",
    "MC dropout",
    "mixture density network",
    "latent classes",
}


def rows(cases, quick=None, short=None):
    """Rows in float64, the gate, those that take long marked; some in float32 too.

    Short floats are the second tier, which .ci/run runs.

    Args:
      cases: The rows.
      quick: Names of those that may take part in the quick tests; None for all.
      short: Names of those to run in float32; None for those that are quick in float64.
    """
    parameters = []
    for case in cases:
        slow = case.slow or (quick is not None and case.name not in quick)
        marks = [pytest.mark.slow] if slow else []
        parameters.append(pytest.param(case, "float64", marks=marks, id=f"{case.name}-float64"))
        if not slow if short is None else case.name in short:
            name = f"{case.name}-float32"
            parameters.append(pytest.param(case, "float32", marks=pytest.mark.slow, id=name))
    return parameters


@pytest.mark.parametrize(("case", "dtype"), rows(MODELS))
def test_model(case, dtype, record_property):
    values, gradients = compare_model(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    bound = MODELS_BOUNDS["gradient"][dtype]
    record(record_property, case.name, "gradients", gradients, dtype, bound)


@pytest.mark.parametrize(("case", "dtype"), rows([c for c in MODELS if c.runs], QUICK_RUNS, RUNS))
def test_model_training(case, dtype, record_property):
    check_training(case, "adam", dtype, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RUNS))
def test_model_training_by_another_optimizer(name, record_property):
    case = next(case for case in MODELS if case.name == name)
    check_training(case, "rmsprop", "float64", record_property)


def check_training(case, optimizer, dtype, record_property):
    rows = len(next(iter(case.data.values())))
    # A smaller last batch is a second program to compile: one run for each kind of model has one.
    with_rest = case.name in RUNS and optimizer == "adam" and dtype == "float64"
    size = 16 if with_rest else next(size for size in (16, 14) if rows % size == 0)
    errors = compare_training(case, optimizer, dtype, batch_size=size)
    kind = f"100 steps of {optimizer}"
    record(record_property, case.name, kind, errors, dtype, MODELS_BOUNDS["training"][dtype])


def test_quick_runs_are_rows():
    assert {case.name for case in MODELS} >= RUNS


@pytest.mark.parametrize(("case", "dtype"), rows(FUNCTIONS))
def test_function(case, dtype, record_property):
    values, gradients = compare_function(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    if case.differentiable:
        bound = MODELS_BOUNDS["gradient"][dtype]
        record(record_property, case.name, "gradients", gradients, dtype, bound)
