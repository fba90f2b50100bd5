"""Mistakes that the rows of the point estimates must catch."""

import pytest

from parity_tests.cases.point_estimates import chains_row, dropout_row, ensemble_row, swag_row
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


CHAIN_MUTATIONS = {
    # Langevin noise of variance 2 epsilon belongs to a whole gradient step, not to half of one
    "noise of the other convention": ("SGLD", {}, {"temperature": 2.0}),
    "friction .11 for .1": ("SGHMC", {"friction": 0.1}, {"friction": 0.11}),
}
RUN = {"num_steps": 8, "batch_size": 16}


@pytest.mark.parametrize("name", CHAIN_MUTATIONS)
def test_wrong_chain_is_caught(name):
    kind, options, broken = CHAIN_MUTATIONS[name]
    options = {"step_size": ("PolynomialStepSize", 1e-3), **options}
    values, _ = compare_function(chains_row(name, kind, options, RUN, broken), "float64")
    assert max(values.values()) > MODELS["value"]["float64"]


def test_exploration_one_step_longer_is_caught():
    """Each cycle then keeps one draw less."""
    options = {"step_size": ("CyclicalStepSize", 1e-3, 4, 0.5)}
    broken = {"step_size": ("CyclicalStepSize", 1e-3, 4, 0.51)}
    with pytest.raises(AssertionError, match="shapes differ"):
        compare_function(chains_row("longer", "SGLD", options, RUN, broken), "float64")
