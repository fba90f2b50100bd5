"""The rows of heads and objectives can fail: break the twin, and the row must notice."""

import pytest
import torch

import torch_ref.heads.bounded
import torch_ref.heads.classes
import torch_ref.heads.counts
import torch_ref.heads.discretized
import torch_ref.heads.heavy_tailed
import torch_ref.heads.mixture
import torch_ref.heads.positive
import torch_ref.heads.quantiles
import torch_ref.objectives.criteria
from parity_tests.cases import heads, objectives
from parity_tests.engine import compare_function
from parity_tests.tolerances import MODELS
from torch_ref import heads as twins
from torch_ref.heads.links import softplus

ROWS = {case.name: case for case in (*heads.FUNCTIONS, *objectives.FUNCTIONS)}
BOUND = MODELS["value"]["float64"]

# what is broken -> (row, module of the twin, name in it, what stands there instead)
MUTATIONS = {
    "scale without floor": ("StudentTHead", twins.heavy_tailed, "positive", softplus),
    "scale by exp": ("LaplaceHead", twins.heavy_tailed, "positive", torch.exp),
    "shift of units forgotten": (
        "LogNormalHead", twins.heavy_tailed, "in_units",
        lambda value, like: torch.ones((), dtype=like.dtype),
    ),
    "mean by softplus": ("GammaHead", twins.positive, "rate", softplus),
    "total concentration by softplus": ("BetaHead", twins.bounded, "concentration", softplus),
    "rate by softplus": ("PoissonHead exposure", twins.counts, "rate", softplus),
    "dispersion the other way": (
        "NegativeBinomialHead", twins.counts, "concentration", lambda raw: torch.exp(-raw),
    ),
    "log-odds of the other class": (
        "BernoulliHead", twins.classes, "Bernoulli",
        lambda logits: torch_ref.distributions.Bernoulli(logits=-logits),
    ),
    "quantiles not in order": (
        "QuantileHead", twins.quantiles, "positive", lambda raw: softplus(-raw) + 1e-4,
    ),
    "component scale without floor": ("MixtureHead", twins.mixture, "positive", softplus),
    "levels half a level off": (
        "DiscretizedLogisticMixtureHead", twins.discretized, "Logistic",
        lambda loc, scale: torch_ref.distributions.Logistic(loc + 0.5, scale),
    ),
    "ends without their tails": (
        "DiscretizedLogisticMixtureHead", twins.discretized, "Quantized",
        lambda base, low, high: torch_ref.distributions.Quantized(base, low - 1, high + 1),
    ),
    "weights ignored": (
        "pinball loss", torch_ref.objectives.criteria, "weighted_mean",
        lambda values, batch: values.mean(),
    ),
    "censored on the wrong side": (
        "masked and censored", torch_ref.distributions.Normal, "survival_function",
        torch_ref.distributions.Normal.cdf,
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_twin_is_caught(mutation, monkeypatch):
    row, module, name, instead = MUTATIONS[mutation]
    monkeypatch.setattr(module, name, instead)
    values, _ = compare_function(ROWS[row], "float64")
    assert max(values.values()) > 100 * BOUND
