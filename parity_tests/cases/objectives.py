"""Rows of losses, priors and of what a batch may say about its targets."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxprob import batches, heads, objectives, optim
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import likelihood
from parity_tests.engine import FunctionCase
from parity_tests.weights import to_tensors
from torch_ref import batches as twin_batches
from torch_ref import distributions as td
from torch_ref import heads as twin_heads
from torch_ref import objectives as twins
from torch_ref.objectives import likelihood as twin_likelihood
from torch_ref.optim import proximal_l1_

_rng = np.random.default_rng(5)
B, D = 6, 2
PREDICTION, Y = _rng.normal(size=(B, D)), _rng.normal(size=(B, D))
LABELS, CLASSES = _rng.integers(0, 2, (B, D)), _rng.integers(0, D, B)
MASK, CENSORED = _rng.random((B, D)) < 0.6, _rng.integers(-1, 2, (B, D))
WEIGHT = _rng.uniform(0.0, 2.0, B)
PRIORS = {
    "gaussian": ("GaussianPrior", (0.7, 0.2)),
    "laplace": ("LaplacePrior", (0.7, 0.2)),
    "spike and slab": ("SpikeAndSlabPrior", (1.0, 0.1, 0.3)),
    "horseshoe": ("HorseshoePrior", (0.5,)),
}


def _losses(module, a, convert):
    return {
        "mse": module.mse(a["p"], a["y"]),
        "mae": module.mae(a["p"], a["y"]),
        "pinball": module.pinball(a["p"], a["y"], 0.3),
        "binary": module.binary_cross_entropy(a["p"], (a["y"] > 0) * (0.0 * a["p"] + 1.0)),
        "cross": module.cross_entropy(a["p"], convert(CLASSES)),
        "poisson": module.poisson_nll(a["p"], convert(LABELS)),
    }


def _batch(a, convert):
    return {
        "x": a["p"],
        "y": a["y"],
        "mask": convert(MASK),
        "censored": convert(CENSORED),
        "weight": a["weight"],
    }


def _masked_jax(a, key):
    distribution = Independent(Normal(a["p"], 0.8), 1)
    batch = _batch(a, jnp.asarray)
    return {
        "log_likelihood": likelihood.log_likelihood_of_batch(distribution, batch),
        "mean": batches.weighted_mean(distribution.log_prob(a["y"]), batch),
    }


def _masked_torch(a, key):
    distribution = td.Independent(td.Normal(a["p"], torch.full_like(a["p"], 0.8)), 1)
    batch = _batch(a, torch.as_tensor)
    return {
        "log_likelihood": twin_likelihood.log_likelihood_of_batch(distribution, batch),
        "mean": twin_batches.weighted_mean(distribution.log_prob(a["y"]), batch),
    }


def _criterion(name: str, head: str, options: dict, **arguments):
    ours, twin = getattr(heads, head)(**options), getattr(twin_heads, head)(D, **options)
    kernel, bias = (_rng.normal(size=s) for s in (twin.out.weight.shape[::-1], twin.out.bias.shape))

    def jax_fn(a, key):
        loss = getattr(objectives, name)(ours, **arguments)
        params = {"out": {"kernel": a["kernel"], "bias": a["bias"]}}
        value, metrics = loss(params, {"x": a["p"], "y": a["y"], "weight": a["weight"]}, key)
        return {"loss": value, **metrics}

    def torch_fn(a, key):
        tensors = to_tensors({"out/kernel": a["kernel"], "out/bias": a["bias"]}, twin)

        def module(x):
            return torch.func.functional_call(twin, tensors, (x,))

        batch = {"x": a["p"], "y": a["y"], "weight": a["weight"]}
        value, metrics = getattr(twins, name)(module, **arguments)(batch, key)
        return {"loss": value, **metrics}

    inputs = {"p": PREDICTION, "y": Y, "weight": WEIGHT, "kernel": kernel, "bias": bias}
    return FunctionCase(name.replace("_", " "), jax_fn, torch_fn, inputs)


def _prior(name: str) -> FunctionCase:
    kind, arguments = PRIORS[name]

    def jax_fn(a, key):
        return {"log_prob": getattr(objectives, kind)(*arguments).log_prob({"w": a["w"]})}

    def torch_fn(a, key):
        return {"log_prob": getattr(twins, kind)(*arguments).log_prob([a["w"]])}

    return FunctionCase(f"prior {name}", jax_fn, torch_fn, {"w": PREDICTION})


def _proximal_jax(a, key):
    optimizer = optim.proximal_l1(optim.sgd(0.1), 0.1, 3.0)
    updates, _ = optimizer.update(a["y"], optimizer.init(a["p"]), a["p"])
    return {"w": optax.apply_updates(a["p"], updates)}


def _proximal_torch(a, key):
    w = a["p"] - 0.1 * a["y"]
    return {"w": proximal_l1_([w], 0.1 * 3.0)[0]}


COUNTS = _rng.poisson([2.0, 9.0], (20, 2)).astype(float).ravel()


def em_row(name, twin_tolerance=1e-5):
    """A mixture of two Poisson laws from two starts; the last argument breaks the twin."""

    def jax_fn(a, key):
        seen = jnp.asarray(COUNTS, a["log_rate"].dtype)

        def e_step(params):
            joint = seen[:, None] * params["log_rate"] - jnp.exp(params["log_rate"])
            joint = joint + jax.nn.log_softmax(params["logits"])
            r = jax.nn.softmax(joint)
            return (r.sum(0), seen @ r), jax.nn.logsumexp(joint, -1).sum()

        def m_step(statistics, params):
            counts, sums = statistics
            return {"logits": jnp.log(counts), "log_rate": jnp.log(sums / counts)}

        starts = {"logits": jnp.zeros_like(a["log_rate"]), "log_rate": a["log_rate"]}
        fit = objectives.em.fit_em(e_step, m_step, starts, 60, 1e-5)
        taken = fit.num_steps * jnp.ones(())
        return {**fit.params, "bounds": jnp.nan_to_num(fit.bounds), "steps": taken}

    def torch_fn(a, key):
        counts = torch.as_tensor(COUNTS).to(a["log_rate"]).unsqueeze(-1)

        def e_step(params):
            joint = torch.distributions.Poisson(params["log_rate"].exp()).log_prob(counts)
            joint = joint + torch.lgamma(counts + 1) + params["logits"].log_softmax(0)
            return (joint.softmax(-1), counts), joint.logsumexp(-1).sum()

        def m_step(statistics, params):
            r, counts = statistics
            shares = r.mean(0) * len(r)
            return {"logits": shares.log(), "log_rate": ((r * counts).sum(0) / shares).log()}

        starts = [{"logits": torch.zeros(2), "log_rate": row} for row in a["log_rate"]]
        fit = twins.em.fit_em(e_step, m_step, starts, 60, twin_tolerance)
        taken = torch.tensor(float(fit.num_steps))
        return {**fit.params, "bounds": fit.bounds.nan_to_num(), "steps": taken}

    inputs = {"log_rate": np.log([[1.0, 3.0], [5.0, 6.0]])}
    return FunctionCase(name, jax_fn, torch_fn, inputs, differentiable=False)


FUNCTIONS = [
    em_row("EM until nothing is gained"),
    FunctionCase(
        "losses",
        lambda a, key: _losses(likelihood, a, jnp.asarray),
        lambda a, key: _losses(twin_likelihood, a, torch.as_tensor),
        {"p": PREDICTION, "y": Y},
    ),
    FunctionCase(
        "masked and censored", _masked_jax, _masked_torch,
        {"p": PREDICTION, "y": Y, "weight": WEIGHT},
    ),
    _criterion("beta_nll", "NormalHead", {"features": D}, beta=0.5),
    _criterion("pinball_loss", "QuantileHead", {"features": D, "levels": (0.2, 0.5, 0.7)}),
    *(_prior(name) for name in PRIORS),
    FunctionCase(
        "proximal L1", _proximal_jax, _proximal_torch, {"p": PREDICTION, "y": Y},
        differentiable=False,
    ),
]  # fmt: skip
