"""Mistakes that the rows of the point estimates must catch."""

import pytest

from parity_tests.cases.point_estimates import dropout_row, ensemble_row, swag_row
from parity_tests.engine import compare_function, compare_outputs
from parity_tests.tolerances import MODELS

VALUE_MUTATIONS = {
    "adversarial step 1 % too long": ensemble_row("step", 0.01, True, torch_adversarial=0.0101),
    "dropout rates in the other order": dropout_row("order", swapped=True),
}


@pytest.mark.parametrize("name", VALUE_MUTATIONS)
def test_wrong_model_is_caught(name):
    errors = compare_outputs(VALUE_MUTATIONS[name], "float64")
    assert max(errors.values()) > MODELS["value"]["float64"]


def test_an_iterate_gathered_one_step_early_is_caught():
    values, _ = compare_function(swag_row("early", 4, 5, torch_start=4), "float64")
    assert max(values.values()) > MODELS["value"]["float64"]
