"""Rows of the Bayesian networks: every covariance, fixed and learned prior, layers and wrapper."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxprob.bayes as jb
import torch_ref.bayes as tb
import torch_ref.distributions as torch_distributions
import torch_ref.random as torch_random
from jaxprob import objectives, optim, supervised
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior, SpikeAndSlabPrior
from parity_tests.engine import ModelCase
from torch_ref import objectives as torch_objectives
from torch_ref import supervised as torch_supervised
from torch_ref.objectives import GaussianPrior as TorchGaussianPrior

ROWS = 70  # not a multiple of the batch size: the smaller last batch is part of the proof
_rng = np.random.default_rng(0)
_x = _rng.uniform(-1, 1, (ROWS, 2))
DATA = {"x": _x, "y": _x[:, :1] ** 5 + 0.4 * _x[:, 1:] * _rng.normal(size=(ROWS, 1))}
WEIGHTED = {**DATA, "weight": np.random.default_rng(2).integers(0, 4, ROWS) * 1.0}
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
    priors: tuple | None = None,
    kl_weights: tuple | None = None,
    slow: bool = False,
    select=None,
) -> ModelCase:
    """One `GaussianPosterior`; the extra arguments break the twin for the mutation tests."""
    model = supervised.GaussianRegressor(hidden, activation=activation[0])
    prior, twin_prior = priors or (
        GaussianPrior(0.7, 0.1, trainable),
        TorchGaussianPrior(0.7, 0.1, trainable),
    )
    kl_weight, torch_kl_weight = kl_weights or (1.0, torch_kl_weight)
    options = {"covariance": covariance, "rank": 2, "select": select}
    q = jb.GaussianPosterior(model, np.zeros((1, 2)), prior=prior, **options)
    loss = jb.negative_elbo(q, num_data=ROWS, num_samples=num_samples, kl_weight=kl_weight)

    def build_torch():
        twin = torch_supervised.GaussianRegressor(2, hidden, activation=activation[1])
        return tb.GaussianPosterior(twin, prior=twin_prior, **options)

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
        slow=slow,
    )


def layers_row(
    name: str,
    covariance: str,
    trainable: tuple[str, ...] = (),
    estimators: tuple[str, str] = ("weights", "weights"),
    slow: bool = False,
) -> ModelCase:
    """One `BayesianMLP` of `DenseVariational` layers."""
    prior = GaussianPrior(0.7, 0.0, trainable)
    model = jb.BayesianMLP((4,), covariance=covariance, prior=prior, estimator=estimators[0])
    q = jb.VariationalLayers(model)
    twin_prior = TorchGaussianPrior(0.7, 0.0, trainable)

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
        build_torch=lambda: tb.BayesianMLP(
            2, (4,), covariance=covariance, prior=twin_prior, estimator=estimators[1]
        ),
        torch_loss=lambda module: tb.negative_elbo(module, ROWS),
        torch_outputs=torch_outputs,
        data=DATA,
        optimizers=OPTIMIZERS,
        slow=slow,
    )


class ConvNet(nn.Module):
    """A variational convolution over a sequence of one channel, then a variational dense layer."""

    estimator: str
    padding: int | str

    @nn.compact
    def __call__(self, x, key=None):
        keys = (None, None) if key is None else jax.random.split(key)
        options = {"estimator": self.estimator, "covariance": "diagonal"}
        prior = HierarchicalGaussianPrior(0.7, 0.5)
        conv = jb.ConvVariational(
            3, (2,), padding=self.padding, prior=prior, name="conv", **options
        )
        h = jnp.mean(nn.tanh(conv(x[..., None], keys[0])), axis=1)
        loc, raw = jnp.split(jb.DenseVariational(2, name="out", **options)(h, keys[1]), 2, -1)
        return Independent(Normal(loc, nn.softplus(raw) + 0.01), 1)


class TorchConvNet(torch.nn.Module):
    """The same in torch."""

    def __init__(self, estimator: str, padding: int | str):
        super().__init__()
        options = {"estimator": estimator, "covariance": "diagonal"}
        prior = torch_objectives.HierarchicalGaussianPrior(0.7, 0.5)
        self.conv = tb.ConvVariational(1, 3, (2,), padding=padding, prior=prior, **options)
        self.out = tb.DenseVariational(3, 2, **options)

    def forward(self, x, key=None):
        keys = (None, None) if key is None else torch_random.split(key)
        h = torch.tanh(self.conv(x.unsqueeze(-1), keys[0])).mean(1)
        loc, raw = self.out(h, keys[1]).chunk(2, -1)
        scale = torch.logaddexp(raw, torch.zeros_like(raw)) + 0.01
        return torch_distributions.Independent(torch_distributions.Normal(loc, scale), 1)


def conv_row(name: str, estimator: str, padding: int | str, slow: bool = False) -> ModelCase:
    """A model with a `ConvVariational` under a hierarchical prior."""
    model = ConvNet(estimator, padding)
    q = jb.VariationalLayers(model)

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
        build_torch=lambda: TorchConvNet(estimator, padding),
        torch_loss=lambda module: tb.negative_elbo(module, ROWS),
        torch_outputs=torch_outputs,
        data=DATA,
        optimizers=OPTIMIZERS,
        slow=slow,
    )


def joint_row(name: str) -> ModelCase:
    """The log-posterior of a regressor, with rows that count several times or not at all."""
    model = supervised.GaussianRegressor((4,), activation=nn.tanh)

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
        data=WEIGHTED,
        optimizers=OPTIMIZERS,
    )


GELU = (partial(nn.gelu, approximate=False), torch.nn.functional.gelu)

SPIKE_AND_SLAB = (
    SpikeAndSlabPrior(0.8, 0.1, 0.4),
    torch_objectives.SpikeAndSlabPrior(0.8, 0.1, 0.4),
)
HIERARCHY = (
    HierarchicalGaussianPrior(0.7, 0.5, 0.1),
    torch_objectives.HierarchicalGaussianPrior(0.7, 0.5, 0.1),
)
CYCLES = (
    objectives.cyclical_annealing(30, 0.6),
    torch_objectives.cyclical_annealing(30, 0.6),
)

NATURAL = {
    "adam": (  # in the place of Adam, which is what the quick runs take
        jb.natural_gradient(ROWS, 0.1, 0.1, 0.8, 0.7),
        lambda p: tb.natural_gradient(p, ROWS, 0.1, 0.1, 0.8, 0.7),
    ),
    "rmsprop": (
        jb.natural_gradient(ROWS, 0.1, 0.05, 0.5, 0.7),
        lambda p: tb.natural_gradient(p, ROWS, 0.1, 0.05, 0.5, 0.7),
    ),
}


def head(name: str) -> bool:
    """Whether a weight is one of the head, in either package's names."""
    return name.startswith("head")


MODELS = [
    posterior_row("posterior diagonal", "diagonal"),
    posterior_row("posterior layer", "layer").fitted("long"),
    posterior_row("posterior full", "full"),
    posterior_row("posterior layer, prior loc", "layer", ("loc",)).later(),
    posterior_row("posterior diagonal, prior loc scale", "diagonal", ("loc", "scale")).fitted(
        "long"
    ),
    posterior_row("posterior layer, 3 samples, gelu", "layer", (), 3, GELU, (4, 3)).later(),
    posterior_row("posterior low rank", "low_rank"),
    posterior_row(
        "posterior diagonal, spike and slab", "diagonal", (), 2, priors=SPIKE_AND_SLAB, slow=True
    ),
    posterior_row(
        "posterior low rank, spike and slab", "low_rank", (), 2, priors=SPIKE_AND_SLAB, slow=True
    ),
    posterior_row("posterior layer, hierarchical prior", "layer", priors=HIERARCHY).later(),
    posterior_row("posterior diagonal, annealed KL", "diagonal", kl_weights=CYCLES).fitted("long"),
    dataclasses.replace(
        posterior_row(
            "posterior diagonal, natural gradient, weights", "diagonal", kl_weights=(0.7, 0.7)
        ),
        optimizers=NATURAL,
        data=WEIGHTED,
    ).fitted("long"),
    posterior_row("posterior of the last layer", "full", select=head),
    posterior_row(
        "posterior of the last layer, spike and slab",
        "diagonal",
        priors=SPIKE_AND_SLAB,
        select=head,
        slow=True,
    ),
    joint_row("log joint"),
    layers_row("variational layers full", "full").fitted("long"),
    layers_row("variational layers diagonal, prior", "diagonal", ("loc", "scale")).later(),
    layers_row("variational layers local", "diagonal", (), ("local", "local"), slow=True),
    layers_row(
        "variational layers flipout", "diagonal", ("loc",), ("flipout", "flipout"), slow=True
    ),
    conv_row("variational convolution", "weights", "same", slow=True),
    conv_row("variational convolution local", "local", "valid", slow=True),
    conv_row("variational convolution flipout", "flipout", 1),
]
