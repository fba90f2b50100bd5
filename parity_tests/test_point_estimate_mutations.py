"""Mistakes that the rows of the point estimates must catch."""

import pytest

from parity_tests.cases.point_estimates import dropout_row, ensemble_row
from parity_tests.engine import compare_outputs
from parity_tests.tolerances import MODELS

VALUE_MUTATIONS = {
    "adversarial step 1 % too long": ensemble_row("step", 0.01, True, torch_adversarial=0.0101),
    "dropout rates in the other order": dropout_row("order", swapped=True),
}


@pytest.mark.parametrize("name", VALUE_MUTATIONS)
def test_wrong_model_is_caught(name):
    errors = compare_outputs(VALUE_MUTATIONS[name], "float64")
    assert max(errors.values()) > MODELS["value"]["float64"]
