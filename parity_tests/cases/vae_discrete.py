"""Rows of the models with discrete latents: every estimator, codebooks, experts, classes."""

import copy

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch

from jaxprob import heads, objectives, optim, vae
from jaxprob.nn import MLP, as_params
from jaxprob.objectives import estimators
from parity_tests.engine import FunctionCase, ModelCase
from torch_ref import heads as torch_heads
from torch_ref import objectives as torch_objectives
from torch_ref import vae as twins
from torch_ref.nn import MLP as TorchMLP
from torch_ref.objectives import estimators as torch_estimators

ROWS, D = 70, 6  # not a multiple of the batch size: the smaller last batch is part of the proof
_rng = np.random.default_rng(7)
_kinds = _rng.integers(0, 3, ROWS)
_probs = np.array([[0.9] * 3 + [0.1] * 3, [0.1] * 3 + [0.8] * 3, [0.2, 0.7] * 3])[_kinds]
BINARY = {"x": (_rng.random((ROWS, D)) < _probs) * 1.0}
MISSING = {
    **BINARY,
    "mask": _rng.random((ROWS, D)) < 0.8,
    "weight": _rng.uniform(0.0, 2.0, ROWS),
}
WHOLE = {name: array[:64] for name, array in MISSING.items()}  # compiles one program fewer
OPTIMIZERS = {
    "rmsprop": (optim.rmsprop(0.005), lambda p: torch.optim.RMSprop(p, 0.005)),
    "adam": (optim.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
}


def discrete_row(
    name: str,
    estimator: str,
    settings: dict,
    num_categories: int = 2,
    data=BINARY,
    beta: float = 1.0,
    slow: bool = False,
) -> ModelCase:
    """One `DiscreteVAE` with an estimator."""
    latent_dim = 4 if num_categories == 2 else 2
    size = latent_dim * (1 if num_categories == 2 else num_categories)
    learned, controlled = settings.get("baseline") == "learned", estimator == "relax"
    ours = getattr(estimators, estimator)(**settings)
    twin_estimator = getattr(torch_estimators, estimator)(**settings)
    model = vae.DiscreteVAE(
        MLP((5, 5), nn.tanh),
        nn.Sequential([MLP((5,), nn.tanh), heads.BernoulliHead(D)]),
        latent_dim,
        num_categories,
        learn_prior=num_categories > 2,
        baseline=nn.Sequential([MLP((3,), nn.tanh), nn.Dense(1)]) if learned else None,
        control=nn.Sequential([MLP((3,), nn.tanh), nn.Dense(1)]) if controlled else None,
    )

    def init(key):
        params = model.init(key, np.zeros((1, D)), key)["params"]
        return vae.with_estimator_state(params, ours)

    def build_torch():
        decoder = torch.nn.Sequential(
            TorchMLP(size, (5,), torch.tanh), torch_heads.BernoulliHead(5, D)
        )
        baseline = control = None
        if learned:
            baseline = torch.nn.Sequential(TorchMLP(D, (3,), torch.tanh), torch.nn.Linear(3, 1))
        if controlled:
            mlp = TorchMLP(D + size, (3,), torch.tanh)
            control = torch.nn.Sequential(mlp, torch.nn.Linear(3, 1))
        module = twins.DiscreteVAE(
            TorchMLP(D, (5, 5), torch.tanh), decoder, 5, latent_dim, num_categories,
            num_categories > 2, baseline, control,
        )  # fmt: skip
        return twins.with_estimator_state(module, twin_estimator)

    loss_fn = vae.negative_discrete_elbo(model, ours, beta)
    # the bound is evaluated without relaxation and without what follows a temperature
    plain = torch_estimators.score_function(None, twin_estimator.num_samples)
    soft = twin_estimator.relaxed or twin_estimator.schedules
    predicting = plain if soft else twin_estimator

    def outputs(params, batch, key):
        out = model.apply({"params": params.get("params", params)}, batch["x"], key)
        found = {"logits": out.q.distribution.logits, "z": out.z}
        found["evaluated"] = loss_fn.evaluate(params, batch, key)[0]
        if slow:  # it takes long to compile
            found["exact"] = vae.exact_log_marginal(model, params, {"x": batch["x"]})
        return {**found, "log_prob": out.p.log_prob(batch["x"])}

    def torch_outputs(module, batch, key):
        out = module(batch["x"], key)
        found = {"logits": out.q.base_dist.logits, "z": out.z}
        apart = copy.deepcopy(module).eval()  # the loss moves the averages
        evaluate = twins.negative_discrete_elbo(apart, predicting, beta)
        found["evaluated"] = evaluate(batch, key)[0]
        if slow:
            found["exact"] = twins.exact_log_marginal(module, {"x": batch["x"]})
        return {**found, "log_prob": out.p.log_prob(batch["x"])}

    return ModelCase(
        name=name,
        init=init,
        jax_loss=loss_fn,
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=lambda module: twins.negative_discrete_elbo(module, twin_estimator, beta),
        torch_outputs=torch_outputs,
        data=data,
        optimizers=OPTIMIZERS,
        slow=slow,
    )


class Positions(nn.Module):
    """Features as P positions of C channels."""

    count: int

    @nn.compact
    def __call__(self, x):
        """Maps `[B, P C]` to `[B, P, C]`."""
        return x.reshape(x.shape[0], self.count, -1)


class Flat(nn.Module):
    """The way back."""

    @nn.compact
    def __call__(self, x):
        """Maps `[B, P, C]` to `[B, P C]`."""
        return x.reshape(x.shape[0], -1)


K, P, C = 5, 2, 3


def vq_row(
    name: str, decay: float | None, data=BINARY, twin_loss=twins.vq_loss, slow=False, **options
):
    """One `VQVAE`; `twin_loss` breaks the twin for the mutation tests."""
    model = vae.VQVAE(
        nn.Sequential([MLP((5,), nn.tanh), nn.Dense(P * C), Positions(P)]),
        nn.Sequential([Flat(), MLP((5,), nn.tanh), heads.BernoulliHead(D)]),
        K, C, decay,
    )  # fmt: skip

    def build_torch():
        encoder = torch.nn.Sequential(
            TorchMLP(D, (5,), torch.tanh), torch.nn.Linear(5, P * C),
            torch.nn.Unflatten(-1, (P, C)),
        )  # fmt: skip
        decoder = torch.nn.Sequential(
            torch.nn.Flatten(), TorchMLP(P * C, (5,), torch.tanh), torch_heads.BernoulliHead(5, D)
        )
        return twins.VQVAE(encoder, decoder, K, C, decay)

    def outputs(params, batch, key):
        variables = {"params": params.get("params", params), **params.get("collections", {})}
        out = model.apply(variables, batch["x"])
        again = model.apply(variables, out.indices, method="decode").log_prob(batch["x"])
        return {"indices": out.indices, "encodings": out.encodings, "quantized": out.quantized,
                "log_prob": out.p.log_prob(batch["x"]), "again": again}  # fmt: skip

    def torch_outputs(module, batch, key):
        out = module(batch["x"])
        return {"indices": out.indices, "encodings": out.encodings, "quantized": out.quantized,
                "log_prob": out.p.log_prob(batch["x"]),
                "again": module.decode(out.indices).log_prob(batch["x"])}  # fmt: skip

    return ModelCase(
        name=name,
        init=lambda key: as_params(model.init(key, np.zeros((1, D)))),
        jax_loss=vae.vq_loss(model, **options),
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=lambda module: twin_loss(module, **options),
        torch_outputs=torch_outputs,
        data=data,
        optimizers=OPTIMIZERS,
        slow=slow,
    )


_x = _rng.uniform(-1, 1, (ROWS, 2))
REGRESSION = {"x": _x, "y": np.abs(_x[:, :1]) + 0.1 * _rng.normal(size=(ROWS, 1))}


def experts_row() -> ModelCase:
    """Three experts of one layer each, and a gate with a hidden layer."""
    model = vae.MixtureOfExperts(
        [nn.Sequential([MLP((3,), nn.tanh), heads.NormalHead()]) for _ in range(3)],
        MLP((4,), nn.tanh),
    )

    def build_torch():
        experts = [
            torch.nn.Sequential(TorchMLP(2, (3,), torch.tanh), torch_heads.NormalHead(3))
            for _ in range(3)
        ]
        return twins.MixtureOfExperts(experts, 4, TorchMLP(2, (4,), torch.tanh))

    def outputs(params, batch, key):
        p = model.apply({"params": params}, batch["x"])
        r = model.apply({"params": params}, batch["x"], batch["y"], method="responsibilities")
        return {"log_prob": p.log_prob(batch["y"]), "mean": p.mean(), "variance": p.variance(),
                "responsibilities": r}  # fmt: skip

    def torch_outputs(module, batch, key):
        p = module(batch["x"])
        return {"log_prob": p.log_prob(batch["y"]), "mean": p.mean, "variance": p.variance,
                "responsibilities": module.responsibilities(batch["x"], batch["y"])}  # fmt: skip

    return ModelCase(
        name="mixture of experts",
        init=lambda key: model.init(key, np.zeros((1, 2)))["params"],
        jax_loss=objectives.negative_log_likelihood(model),
        jax_outputs=outputs,
        build_torch=build_torch,
        torch_loss=torch_objectives.negative_log_likelihood,
        torch_outputs=torch_outputs,
        data=REGRESSION,
        optimizers=OPTIMIZERS,
        slow=True,
    )


SIZES = (2, 4, 3)
CLASSES = {
    "x": np.stack([_rng.integers(0, size, ROWS) for size in SIZES], axis=1),
    "mask": _rng.random((ROWS, len(SIZES))) < 0.8,
    "weight": _rng.uniform(0.0, 2.0, ROWS),
}


def classes_row() -> ModelCase:
    """Latent classes of variables with 2, 4 and 3 values, some missing."""
    model = vae.LatentClassModel(3, SIZES)

    def outputs(params, batch, key):
        variables = {"params": params}
        r = model.apply(variables, batch["x"], batch["mask"], method="responsibilities")
        whole = model.apply(variables).log_prob(batch["x"])
        return {"responsibilities": r, "log_prob": whole}

    def torch_outputs(module, batch, key):
        r = module.responsibilities(batch["x"], batch["mask"])
        return {"responsibilities": r, "log_prob": module().log_prob(batch["x"])}

    return ModelCase(
        name="latent classes",
        init=lambda key: model.init(key)["params"],
        jax_loss=vae.negative_log_marginal(model),
        jax_outputs=outputs,
        build_torch=lambda: twins.LatentClassModel(3, SIZES),
        torch_loss=twins.negative_log_marginal,
        torch_outputs=torch_outputs,
        data=CLASSES,
        optimizers=OPTIMIZERS,
    )


def em_row(name: str, twin_pseudo_count: float = 0.3) -> FunctionCase:
    """Two steps of EM and a whole fit; the last argument breaks the twin."""
    model = vae.LatentClassModel(3, SIZES)
    fit = {"num_steps": 4, "num_restarts": 2}

    def jax_fn(a, key):
        found = {}
        params = {"class_logits": a["class_logits"], "item_logits": a["item_logits"]}
        data = (jnp.asarray(CLASSES["x"]), jnp.asarray(CLASSES["mask"]), a["weight"])
        for i in range(2):
            params, found[f"objective {i}"] = vae.em_step(model, params, *data, 0.3)
        x, mask, weight = data
        # no value of the first column is seen, nothing is added, and one row is not to be counted
        unseen, some = mask & (jnp.arange(3) > 0)[None], weight.at[0].set(0.0)
        bare, _ = vae.em_step(model, params, x.at[0, 1].set(9), unseen, some)
        found |= {f"bare {name}": value for name, value in bare.items()}
        fitted = vae.fit_em(model, x, key, mask=mask, weight=weight, pseudo_count=0.3, **fit)
        found |= {f"fitted {name}": value for name, value in fitted.params.items()}
        return {**found, **params, "climb": fitted.objectives}

    def torch_fn(a, key):
        module, found = twins.LatentClassModel(3, SIZES), {}
        module.load_state_dict({name: a[name] for name in ("class_logits", "item_logits")})
        data = (torch.as_tensor(CLASSES["x"]), torch.as_tensor(CLASSES["mask"]), a["weight"])
        for i in range(2):
            found[f"objective {i}"] = twins.em_step(module, *data, twin_pseudo_count)
        found |= {name: value.clone() for name, value in module.state_dict().items()}
        x, mask, weight = data
        spoiled, some = x.clone(), weight.detach().clone()
        spoiled[0, 1], some[0] = 9, 0.0
        twins.em_step(module, spoiled, mask & (torch.arange(3) > 0), some)
        found |= {f"bare {name}": value.clone() for name, value in module.state_dict().items()}
        fitted = twins.fit_em(module, x, key, mask=mask, weight=weight, pseudo_count=0.3, **fit)
        found |= {f"fitted {name}": value for name, value in fitted.params.items()}
        return {**found, "climb": fitted.objectives}

    inputs = {
        "class_logits": _rng.normal(size=3),
        "item_logits": _rng.normal(size=(3, len(SIZES), max(SIZES))),
        "weight": CLASSES["weight"],
    }
    return FunctionCase(name, jax_fn, torch_fn, inputs, differentiable=False)


def codebook_row(name: str, twin_smoothing: float = 0.5) -> FunctionCase:
    """The running averages and the revival alone; the last argument breaks the twin."""
    number = 12
    inputs = {
        "codes": _rng.normal(size=(K, C)),
        "counts": np.array([3.0, 0.4, 1.7, 0.01, 0.9]),
        "sums": _rng.normal(size=(K, C)),
        "encodings": _rng.normal(size=(number, C)),
        "weight": _rng.uniform(0.0, 2.0, number),
        "indices": _rng.integers(0, 3, number),
    }

    def run(a, key, package, smoothing):
        indices = a["indices"]
        book = {part: a[part] for part in ("codes", "counts", "sums")}
        moved = package.update_codebook(book, a["encodings"], indices, a["weight"], 0.8, smoothing)
        revived = package.revive_codes(moved, a["encodings"], key, a["weight"], 0.7)
        bare = package.update_codebook(book, a["encodings"], indices, a["weight"], 0.0, 0.0)
        return {
            **moved,
            "codes of empty cells": bare["codes"],
            **{f"revived {part}": value for part, value in revived.items()},
        }

    return FunctionCase(
        name,
        lambda a, key: run(a, key, vae, 0.5),
        lambda a, key: run(a, key, twins, twin_smoothing),
        inputs,
        differentiable=False,
    )


NVIL = {"baseline": "learned", "num_samples": 2, "normalize": True}

MODELS = [
    discrete_row("discrete VAE, NVIL", "score_function", NVIL),
    discrete_row("discrete VAE, RELAX", "relax", {}, data=WHOLE, slow=True),
    discrete_row("discrete VAE, VIMCO", "vimco", {"num_samples": 3}, beta=0.7, slow=True),
    discrete_row(
        "discrete VAE, one-hot, Gumbel", "gumbel_softmax", {"temperature": 0.8, "num_samples": 2},
        3, MISSING, slow=True,
    ),
    vq_row("VQ-VAE", 0.9, MISSING, revive_below=0.5).fitted("long"),
    vq_row("VQ-VAE, codes by gradient", None, slow=True, commitment=0.3),
    experts_row(),
    classes_row().fitted("long"),
]  # fmt: skip
FUNCTIONS = [em_row("latent classes, EM"), codebook_row("codebook by running averages")]
