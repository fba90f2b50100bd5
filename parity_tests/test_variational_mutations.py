"""Mistakes in the twins of the variational posteriors that their rows must notice."""

import dataclasses

import pytest

from jaxprob import bayes
from jaxprob.objectives import HierarchicalGaussianPrior, cyclical_annealing
from parity_tests.cases.bayes import ROWS, WEIGHTED, layers_row, posterior_row
from parity_tests.engine import compare_outputs
from parity_tests.tolerances import MODELS
from parity_tests.training_runs import compare_training
from torch_ref import objectives as torch_objectives
from torch_ref.batches import weighted_mean
from torch_ref.bayes import elbo as torch_elbo
from torch_ref.bayes import natural_gradient

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


def test_weights_that_are_normalised_are_noticed(monkeypatch):
    monkeypatch.setattr(torch_elbo, "mean_over_rows", weighted_mean)
    row = dataclasses.replace(posterior_row("posterior", "diagonal"), data=WEIGHTED)
    loss = torch_elbo.negative_elbo
    row = dataclasses.replace(row, torch_loss=lambda module: loss(module, ROWS))
    errors = compare_outputs(row, "float64")
    assert max(errors.values()) > MODELS["value"]["float64"]


class UncorrectedStart(natural_gradient):
    """Its running mean starts at 0 and is taken as it is."""

    def _step_block(self, loc, raw, options):
        self.state[loc]["steps"] = 10**6
        super()._step_block(loc, raw, options)


NATURAL_GRADIENTS = {
    "a running mean that remembers its start": lambda p: UncorrectedStart(p, ROWS, 0.2, 0.1, 0.8),
    "precisions a millionth too fast": lambda p: natural_gradient(p, ROWS, 0.2, 0.1000001, 0.8),
}


@pytest.mark.parametrize("name", NATURAL_GRADIENTS)
def test_another_natural_gradient_is_noticed(name):
    ours = bayes.natural_gradient(ROWS, 0.2, 0.1, 0.8)
    row = posterior_row("posterior", "diagonal")
    row = dataclasses.replace(row, optimizers={"mutation": (ours, NATURAL_GRADIENTS[name])})
    errors = compare_training(row, "mutation", "float64", steps=5)
    assert max(errors.values()) > MODELS["training"]["float64"]
