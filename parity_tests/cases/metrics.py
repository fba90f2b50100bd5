"""Rows of the metrics."""

import numpy as np

import jaxprob.distributions as jd
import torch_ref.distributions as td
from jaxprob import metrics
from parity_tests.engine import FunctionCase
from torch_ref import metrics as torch_metrics

_rng = np.random.default_rng(3)


def _predictive_jax(a, key):
    normal = jd.Normal(a["locs"], a["scales"])
    p = jd.Predictive(normal)
    return {
        "nll": metrics.nll(p, a["y"]),
        "crps mixture": metrics.crps(p, a["y"]),
        "crps normal": metrics.crps(jd.Normal(a["locs"][0], a["scales"][0]), a["y"]),
        "crps samples": metrics.crps(a["samples"], a["y"]),
        "pit": metrics.pit(p, a["y"]),
    }


def _predictive_torch(a, key):
    p = td.Predictive(td.Normal(a["locs"], a["scales"]))
    return {
        "nll": torch_metrics.nll(p, a["y"]),
        "crps mixture": torch_metrics.crps(p, a["y"]),
        "crps normal": torch_metrics.crps(td.Normal(a["locs"][0], a["scales"][0]), a["y"]),
        "crps samples": torch_metrics.crps(a["samples"], a["y"]),
        "pit": torch_metrics.pit(p, a["y"]),
    }


def _intervals_jax(a, key):
    p = jd.Predictive(jd.Normal(a["locs"], a["scales"]))
    return {
        "coverage": metrics.coverage(p, a["y"], 0.8),
        "sharpness": metrics.sharpness(p, 0.8),
    }


def _intervals_torch(a, key):
    p = td.Predictive(td.Normal(a["locs"], a["scales"]))
    return {
        "coverage": torch_metrics.coverage(p, a["y"], 0.8),
        "sharpness": torch_metrics.sharpness(p, 0.8),
    }


def _classes(m):
    def scores(a, key):
        return {
            "brier": m.brier(a["probs"], a["labels"]),
            "brier binary": m.brier(a["probs"][:, 0], (a["labels"] == 0) * 1),
            "ece": m.expected_calibration_error(a["probs"], a["labels"]),
            "ece binary": m.expected_calibration_error(a["probs"][:, 0], (a["labels"] == 0) * 1, 7),
        }

    return scores


def _over_classes(d):
    """What the draws of a classifier say together, and what they differ in."""

    def split(a, key):
        del key
        found = {}
        for name, p in {
            "class": d.Predictive(d.Categorical(logits=a["logits"])),
            "one hot": d.Predictive(d.OneHotCategorical(logits=a["logits"])),
            "flip": d.Predictive(d.Bernoulli(logits=a["logits"])),
        }.items():
            for field in ("probs", "aleatoric", "epistemic", "mutual_information"):
                found[f"{name} {field}"] = getattr(p, field)
            found[f"{name} entropy"] = p.entropy()
        return found

    return split


PREDICTIVE = {
    "locs": _rng.normal(size=(5, 40)),
    "scales": _rng.uniform(0.3, 1.0, (5, 40)),
    "samples": _rng.normal(size=(31, 40)),
    "y": _rng.normal(size=(40,)),
}
CLASSES = {"probs": _rng.dirichlet(np.ones(4), 90), "labels": _rng.integers(0, 4, 90)}

FUNCTIONS = [
    FunctionCase("scores", _predictive_jax, _predictive_torch, PREDICTIVE),
    FunctionCase(
        "predictive over classes",
        _over_classes(jd),
        _over_classes(td),
        {"logits": 2.0 * _rng.normal(size=(4, 3, 5))},
    ),
    FunctionCase("intervals", _intervals_jax, _intervals_torch, PREDICTIVE, differentiable=False),
    FunctionCase(
        "class scores",
        _classes(metrics),
        _classes(torch_metrics),
        CLASSES,
        differentiable=False,  # ties and bins
    ),
]
