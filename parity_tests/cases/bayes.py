"""Rows of the Bayesian networks: every covariance, fixed and learned prior, layers and wrapper."""

from functools import partial

import flax.linen as nn
import numpy as np
import torch

import jaxprob.bayes as jb
import torch_ref.bayes as tb
from jaxprob import optim, supervised
from jaxprob.objectives import GaussianPrior
from parity_tests.engine import ModelCase
from torch_ref import supervised as torch_supervised
from torch_ref.objectives import GaussianPrior as TorchGaussianPrior

ROWS = 70  # not a multiple of the batch size: the smaller last batch is part of the proof
_rng = np.random.default_rng(0)
_x = _rng.uniform(-1, 1, (ROWS, 2))
DATA = {"x": _x, "y": _x[:, :1] ** 5 + 0.4 * _x[:, 1:] * _rng.normal(size=(ROWS, 1))}
OPTIMIZERS = {
    "rmsprop": (optim.rmsprop(0.005), lambda p: torch.optim.RMSprop(p, 0.005)),
    "adam": (optim.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
}


def posterior_row(
    name: str,
    covariance: str,
    trainable: tuple[str, ...] = (),
    num_samples: int = 1,
    activation=(nn.sigmoid, torch.sigmoid),
    hidden: tuple[int, ...] = (4,),
    torch_kl_weight: float = 1.0,
) -> ModelCase:
    """One `GaussianPosterior`; the extra arguments break the twin for the mutation tests."""
    model = supervised.GaussianRegressor(hidden, activation=activation[0])
    prior = GaussianPrior(0.7, 0.1, trainable)
    q = jb.GaussianPosterior(model, np.zeros((1, 2)), covariance=covariance, prior=prior)
    loss = jb.negative_elbo(q, num_data=ROWS, num_samples=num_samples)

    def build_torch():
        twin = torch_supervised.GaussianRegressor(2, hidden, activation=activation[1])
        twin_prior = TorchGaussianPrior(0.7, 0.1, trainable)
        return tb.GaussianPosterior(twin, covariance=covariance, prior=twin_prior)

    def outputs(params, batch, key):
        draws = q.sample(params, key, 3)
        prediction = jb.predict(model, draws, batch["x"])
        base = prediction.components.distribution
        return {
            "loc": base.loc,
            "scale": base.scale,
            "log_prob": prediction.log_prob(batch["y"]),
            "epistemic": prediction.epistemic,
            "aleatoric": prediction.aleatoric,
        }

    def torch_outputs(module, batch, key):
        prediction = tb.predict(module.model, module.sample(key, 3), batch["x"])
        return {
            "loc": prediction.components.base_dist.loc,
            "scale": prediction.components.base_dist.scale,
            "log_prob": prediction.log_prob(batch["y"]),
            "epistemic": prediction.epistemic,
            "aleatoric": prediction.aleatoric,
        }

    return ModelCase(
        name=name,
        init=q.init,
        jax_loss=loss,
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=lambda module: tb.negative_elbo(module, ROWS, num_samples, torch_kl_weight),
        torch_outputs=torch_outputs,
        data=DATA,
        optimizers=OPTIMIZERS,
    )


def layers_row(name: str, covariance: str, trainable: tuple[str, ...] = ()) -> ModelCase:
    """One `BayesianMLP` of `DenseVariational` layers."""
    model = jb.BayesianMLP((4,), covariance=covariance, prior=GaussianPrior(0.7, 0.0, trainable))
    q = jb.VariationalLayers(model)
    prior = TorchGaussianPrior(0.7, 0.0, trainable)

    def outputs(params, batch, key):
        base = model.apply({"params": params}, batch["x"], key).distribution
        return {"loc": base.loc, "scale": base.scale}

    def torch_outputs(module, batch, key):
        base = module(batch["x"], key).base_dist
        return {"loc": base.loc, "scale": base.scale}

    return ModelCase(
        name=name,
        init=partial(q.init, example=np.zeros((1, 2))),
        jax_loss=jb.negative_elbo(model, num_data=ROWS),
        jax_outputs=outputs,
        build_torch=lambda: tb.BayesianMLP(2, (4,), covariance=covariance, prior=prior),
        torch_loss=lambda module: tb.negative_elbo(module, ROWS),
        torch_outputs=torch_outputs,
        data=DATA,
        optimizers=OPTIMIZERS,
    )


def joint_row(name: str) -> ModelCase:
    """The log-posterior of a regressor, with rows that count several times or not at all."""
    model = supervised.GaussianRegressor((4,), activation=nn.tanh)
    weight = np.random.default_rng(2).integers(0, 3, ROWS) * 1.0

    def loss(params, batch, key):
        total = jb.log_joint(model, GaussianPrior(0.7), batch)(params)
        return -total / ROWS, {"joint": total}

    def torch_loss(module):
        def loss(batch, key):
            total = tb.log_joint(module, TorchGaussianPrior(0.7), batch)()
            return -total / ROWS, {"joint": total}

        return loss

    return ModelCase(
        name=name,
        init=lambda key: model.init(key, np.zeros((1, 2)))["params"],
        jax_loss=loss,
        jax_outputs=lambda params, batch, key: loss(params, batch, key)[1],
        build_torch=lambda: torch_supervised.GaussianRegressor(2, (4,), 1, torch.tanh),
        torch_loss=torch_loss,
        torch_outputs=lambda module, batch, key: torch_loss(module)(batch, key)[1],
        data={**DATA, "weight": weight},
        optimizers=OPTIMIZERS,
    )


GELU = (partial(nn.gelu, approximate=False), torch.nn.functional.gelu)

MODELS = [
    posterior_row("posterior diagonal", "diagonal"),
    posterior_row("posterior layer", "layer"),
    posterior_row("posterior full", "full"),
    posterior_row("posterior layer, prior loc", "layer", ("loc",)),
    posterior_row("posterior diagonal, prior loc scale", "diagonal", ("loc", "scale")),
    posterior_row("posterior layer, 3 samples, gelu", "layer", (), 3, GELU, (4, 3)),
    joint_row("log joint"),
    layers_row("variational layers full", "full"),
    layers_row("variational layers diagonal, prior", "diagonal", ("loc", "scale")),
]
