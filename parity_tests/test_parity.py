"""Every row of `cases/`: values, gradients and training runs, float64 first, then float32."""

import pytest

from parity_tests.cases import FUNCTIONS, MODELS
from parity_tests.engine import (
    compare_function,
    compare_gradients,
    compare_outputs,
    compare_training,
    record,
)
from parity_tests.tolerances import MODELS as MODELS_BOUNDS

# One training run for each kind of model; those of the other rows are longer proofs.
QUICK_RUNS = {
    "posterior layer",
    "posterior low rank",
    "posterior diagonal, prior loc scale",
    "posterior diagonal, annealed KL",
    "posterior diagonal, natural gradient",
    "variational layers full",
    "deep ensemble, adversarial, prior",
    "MC dropout",
    "gaussian regressor",
    "categorical classifier",
    "mixture density network",
}

# A training run that agrees has gradients that do; their own comparison is then a longer proof.
NO_RUNS = {case.name for case in MODELS} - QUICK_RUNS


def rows(cases, quick=None):
    """Rows as parameters, those that take long marked."""
    slow = [case.slow or (quick is not None and case.name not in quick) for case in cases]
    marks = [[pytest.mark.slow] if is_slow else [] for is_slow in slow]
    return [pytest.param(case, marks=m) for case, m in zip(cases, marks, strict=True)]


# Float64 is the gate; the second tier is run by .ci/run.
DTYPES = ("float64", pytest.param("float32", marks=pytest.mark.slow))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(MODELS), ids=lambda case: case.name)
def test_model_values(case, dtype, record_property):
    errors = compare_outputs(case, dtype)
    record(record_property, case.name, "values", errors, dtype, MODELS_BOUNDS["value"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(MODELS, NO_RUNS), ids=lambda case: case.name)
def test_model_gradients(case, dtype, record_property):
    errors = compare_gradients(case, dtype)
    record(record_property, case.name, "gradients", errors, dtype, MODELS_BOUNDS["gradient"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(MODELS, QUICK_RUNS), ids=lambda case: case.name)
def test_model_training(case, dtype, record_property):
    check_training(case, "adam", dtype, record_property)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(QUICK_RUNS))
def test_model_training_by_another_optimizer(name, dtype, record_property):
    case = next(case for case in MODELS if case.name == name)
    check_training(case, "rmsprop", dtype, record_property)


def check_training(case, optimizer, dtype, record_property):
    errors = compare_training(case, optimizer, dtype)
    kind = f"100 steps of {optimizer}"
    record(record_property, case.name, kind, errors, dtype, MODELS_BOUNDS["training"][dtype])


def test_quick_runs_are_rows():
    assert {case.name for case in MODELS} >= QUICK_RUNS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(FUNCTIONS), ids=lambda case: case.name)
def test_function(case, dtype, record_property):
    values, gradients = compare_function(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    if case.differentiable:
        bound = MODELS_BOUNDS["gradient"][dtype]
        record(record_property, case.name, "gradients", gradients, dtype, bound)
