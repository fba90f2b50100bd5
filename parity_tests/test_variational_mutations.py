"""Mistakes in the twins of the variational posteriors that their rows must notice."""

import pytest

from jaxprob.objectives import HierarchicalGaussianPrior, cyclical_annealing
from parity_tests.cases.bayes import layers_row, posterior_row
from parity_tests.engine import compare_outputs
from parity_tests.tolerances import MODELS
from torch_ref import objectives as torch_objectives

PRIOR = HierarchicalGaussianPrior(0.7, 0.5, 0.1)
MUTATIONS = {
    "flipout taken for local": lambda: layers_row(
        "layers", "diagonal", estimators=("local", "flipout")
    ),
    "a shared draw taken for flipout": lambda: layers_row(
        "layers", "diagonal", estimators=("flipout", "weights")
    ),
    "spread of the hierarchy off by a thousandth": lambda: posterior_row(
        "posterior",
        "layer",
        priors=(PRIOR, torch_objectives.HierarchicalGaussianPrior(0.7, 0.5005, 0.1)),
    ),
    "a cycle one step longer": lambda: posterior_row(
        "posterior",
        "diagonal",
        kl_weights=(cyclical_annealing(30, 0.6), torch_objectives.cyclical_annealing(31, 0.6)),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_mistake_is_noticed(name):
    errors = compare_outputs(MUTATIONS[name](), "float64")
    assert max(errors.values()) > MODELS["value"]["float64"]
