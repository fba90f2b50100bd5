"""Mistakes that ports of discrete latents make, each of which its row must notice."""

from unittest import mock

import pytest
import torch

from parity_tests.cases import objectives
from parity_tests.cases.estimators import estimators_row
from parity_tests.cases.vae_discrete import codebook_row, em_row, vq_row
from parity_tests.engine import compare_function, compare_gradients
from parity_tests.loss_errors import right_and_broken
from parity_tests.tolerances import MODELS
from torch_ref.batches import weighted_mean
from torch_ref.objectives.estimators import Estimate, Estimator, pathwise, score
from torch_ref.objectives.estimators.contract import draws, without_state


def _leaky_score_function(baseline, num_samples):
    """The signal, baseline and all, times log q: both factors have a gradient."""

    def estimate(q, f, key, batch, predicted, state):
        z = draws(q, key, num_samples)
        values = torch.stack([f(one) for one in z])
        term = (values.detach() - predicted) * q.log_prob(z)
        error = (values.detach() - predicted).square().mean(0)
        return Estimate((values + term - term.detach()).mean(0), error, {})

    return Estimator("leaky", estimate, num_samples, learns_baseline=True)


def _arithmetic_vimco(num_samples):
    """The mean of the other weights themselves, not of their logarithms."""

    def estimate(q, f, key, batch, predicted, state):
        z = draws(q, key, num_samples)
        log_w = torch.stack([f(one) for one in z])
        bound, signals = score.log_mean_exp(log_w), []
        for s in range(num_samples):
            others = torch.cat([log_w[:s], log_w[s + 1 :]]).detach()
            stand_in = score.log_mean_exp(others)[None]
            signals.append(bound.detach() - score.log_mean_exp(torch.cat([others, stand_in])))
        term = score.score_term(torch.stack(signals), q.log_prob(z))
        return without_state(bound + term.sum(0))

    return Estimator("VIMCO", estimate, num_samples, log_mean_exp=True)


ESTIMATORS = {
    "gradient of the baseline not stopped": (
        "learned", "score_function", _leaky_score_function),
    "VIMCO with the arithmetic mean": ("vimco", "vimco", _arithmetic_vimco),
}  # fmt: skip


@pytest.mark.parametrize("name", ESTIMATORS)
def test_wrong_estimator_is_caught(name):
    """The values are right, so only the gradients can tell."""
    estimator, function, broken = ESTIMATORS[name]
    row = estimators_row(name, "Bernoulli", (3,), (estimator,))
    with mock.patch(f"torch_ref.objectives.estimators.{function}", broken):
        values, gradients = compare_function(row, "float64")
    assert max(values.values()) <= MODELS["value"]["float64"]
    assert max(gradients.values()) > MODELS["gradient"]["float64"]


def test_a_relaxed_draw_that_does_not_know_the_class_is_caught(monkeypatch):
    """RELAX with one relaxed draw in both places: its terms no longer cancel on average."""
    row = estimators_row("unconditional", "Bernoulli", (3,), ("relax",))
    coupled = pathwise._coupled_draws

    def free(*arguments):
        hard, soft, _ = coupled(*arguments)
        return [hard, soft, soft]

    monkeypatch.setattr(pathwise, "_coupled_draws", free)
    values, gradients = compare_function(row, "float64")
    assert values["relax"] <= MODELS["value"]["float64"]
    assert values["relax baseline"] > MODELS["value"]["float64"]
    assert gradients["logits"] > MODELS["gradient"]["float64"]


def _swapped_terms(model, commitment=0.25):
    """The commitment's weight on the wrong one of the two distances."""

    def loss_fn(batch, key):
        out = model(batch["x"])
        loss = -weighted_mean(out.p.log_prob(batch["x"]), batch)
        to_code = (out.encodings - out.quantized.detach()).square().flatten(1).sum(-1)
        to_encoding = (out.encodings.detach() - out.quantized).square().flatten(1).sum(-1)
        return loss + to_code.mean() + commitment * to_encoding.mean(), {}

    return loss_fn


def test_swapped_commitment_and_codebook_terms_are_caught():
    right = vq_row("right", None, commitment=0.3)
    assert max(compare_gradients(right, "float64").values()) <= MODELS["gradient"]["float64"]
    row = vq_row("swapped", None, twin_loss=_swapped_terms, commitment=0.3)
    assert max(compare_gradients(row, "float64").values()) > MODELS["gradient"]["float64"]


@pytest.mark.parametrize(
    ("row", "mistake"),
    [(codebook_row, 0.0), (em_row, 0.301), (objectives.em_row, 1e-3)],
    ids=["no Laplace smoothing", "another pseudo-count", "EM stopped early"],
)
def test_wrong_counts_are_caught(row, mistake):
    right, wrong = right_and_broken(row("right"), row("broken", mistake))
    assert right <= MODELS["value"]["float64"]
    assert wrong > MODELS["value"]["float64"]
