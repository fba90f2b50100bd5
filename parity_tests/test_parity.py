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


def rows(cases):
    """Rows as parameters, those that take long marked."""
    marks = [[pytest.mark.slow] if case.slow else [] for case in cases]
    return [pytest.param(case, marks=m) for case, m in zip(cases, marks, strict=True)]


# Float64 is the gate; the second tier is run by .ci/run.
DTYPES = ("float64", pytest.param("float32", marks=pytest.mark.slow))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(MODELS), ids=lambda case: case.name)
def test_model_values(case, dtype, record_property):
    errors = compare_outputs(case, dtype)
    record(record_property, case.name, "values", errors, dtype, MODELS_BOUNDS["value"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(MODELS), ids=lambda case: case.name)
def test_model_gradients(case, dtype, record_property):
    errors = compare_gradients(case, dtype)
    record(record_property, case.name, "gradients", errors, dtype, MODELS_BOUNDS["gradient"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["adam", pytest.param("rmsprop", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", rows(MODELS), ids=lambda case: case.name)
def test_model_training(case, optimizer, dtype, record_property):
    errors = compare_training(case, optimizer, dtype)
    kind = f"100 steps of {optimizer}"
    record(record_property, case.name, kind, errors, dtype, MODELS_BOUNDS["training"][dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", rows(FUNCTIONS), ids=lambda case: case.name)
def test_function(case, dtype, record_property):
    values, gradients = compare_function(case, dtype)
    record(record_property, case.name, "values", values, dtype, MODELS_BOUNDS["value"][dtype])
    if case.differentiable:
        bound = MODELS_BOUNDS["gradient"][dtype]
        record(record_property, case.name, "gradients", gradients, dtype, bound)
