"""Rows of the supervised models."""

import flax.linen as nn
import numpy as np
import torch

from jaxprob import objectives, supervised
from parity_tests.cases.bayes import DATA, OPTIMIZERS
from parity_tests.engine import ModelCase
from torch_ref import objectives as torch_objectives
from torch_ref import supervised as torch_supervised


def regressor_row(name: str, homoscedastic: bool, data=DATA) -> ModelCase:
    """One `GaussianRegressor` with its likelihood."""
    # Equal widths give a square kernel, whose transposition no shape check can notice.
    model = supervised.GaussianRegressor((5, 5), 1, nn.tanh, homoscedastic, 0.3, 1.7)

    def outputs(params, batch, key):
        prediction = model.apply({"params": params}, batch["x"])
        base = prediction.distribution
        return {"loc": base.loc, "scale": base.scale, "log_prob": prediction.log_prob(batch["y"])}

    def torch_outputs(module, batch, key):
        prediction = module(batch["x"])
        base = prediction.base_dist
        return {"loc": base.loc, "scale": base.scale, "log_prob": prediction.log_prob(batch["y"])}

    return ModelCase(
        name=name,
        init=lambda key: model.init(key, np.zeros((1, 2)))["params"],
        jax_loss=objectives.negative_log_likelihood(model),
        jax_outputs=outputs,
        build_torch=lambda: torch_supervised.GaussianRegressor(
            2, (5, 5), 1, torch.tanh, homoscedastic, 0.3, 1.7
        ),
        torch_loss=torch_objectives.negative_log_likelihood,
        torch_outputs=torch_outputs,
        data=data,
        optimizers=OPTIMIZERS,
    )


def supervised_row(name: str, model: nn.Module, build_torch, y: np.ndarray) -> ModelCase:
    """A supervised model with its likelihood and other targets."""

    def outputs(params, batch, key):
        return {"log_prob": model.apply({"params": params}, batch["x"]).log_prob(batch["y"])}

    return ModelCase(
        name=name,
        init=lambda key: model.init(key, np.zeros((1, 2)))["params"],
        jax_loss=objectives.negative_log_likelihood(model),
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=torch_objectives.negative_log_likelihood,
        torch_outputs=lambda module, batch, key: {
            "log_prob": module(batch["x"]).log_prob(batch["y"])
        },
        data={"x": DATA["x"], "y": y},
        optimizers=OPTIMIZERS,
    )


RANKS = np.argsort(np.argsort(DATA["y"][:, 0]))
WEIGHTED = {**DATA, "weight": np.random.default_rng(1).uniform(0, 2, len(DATA["x"]))}

MODELS = [
    regressor_row("gaussian regressor", homoscedastic=False).fitted("quick"),
    regressor_row("gaussian regressor, one scale", homoscedastic=True).later(),
    regressor_row("gaussian regressor, weights", homoscedastic=False, data=WEIGHTED),
    supervised_row(
        "bernoulli classifier",
        supervised.BernoulliClassifier((5, 5), 1, nn.tanh),
        lambda: torch_supervised.BernoulliClassifier(2, (5, 5), 1, torch.tanh),
        (DATA["y"] > 0.0) * 1.0,
    ),
    supervised_row(
        "categorical classifier",
        supervised.CategoricalClassifier(5, (5, 5), nn.tanh),
        lambda: torch_supervised.CategoricalClassifier(2, 5, (5, 5), torch.tanh),
        RANKS * 5 // len(RANKS),
    ).fitted("quick"),
    supervised_row(
        "mixture density network",
        supervised.MixtureDensityNetwork((5, 5), 4, 1, nn.tanh, 0.3, 1.7),
        lambda: torch_supervised.MixtureDensityNetwork(2, (5, 5), 4, 1, torch.tanh, 0.3, 1.7),
        DATA["y"],
    ).fitted("long"),
]
