"""Rows of the gradient estimators: surrogates and their gradients from the same key."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.func import functional_call

from jaxprob import distributions as jd
from jaxprob import heads, nn, vae
from jaxprob.objectives import estimators
from parity_tests import weights
from parity_tests.engine import FunctionCase
from parity_tests.weights import to_params, to_tensors
from torch_ref import distributions as td
from torch_ref import heads as torch_heads
from torch_ref import nn as torch_nn
from torch_ref import vae as torch_vae
from torch_ref.objectives import estimators as twins

B, SIZE = 5, 4
_rng = np.random.default_rng(11)
WEIGHT = _rng.uniform(0.0, 2.0, B)
STATE = {"mean": 0.7, "variance": 2.3, "weight": 0.4}
SETTINGS = {
    "score": ("score_function", {"num_samples": 2}),
    "constant": ("score_function", {"baseline": 1.5}),
    "moving": ("score_function", {"baseline": "moving_average", "num_samples": 2, "decay": 0.8}),
    "others": ("score_function", {"baseline": "leave_one_out", "num_samples": 3}),
    "learned": ("score_function", {"baseline": "learned", "num_samples": 2}),
    "nvil": ("score_function", {"baseline": "learned", "num_samples": 2, "normalize": True}),
    "vimco": ("vimco", {"num_samples": 3}),
    "wake": ("reweighted_wake_sleep", {"num_samples": 3}),
    "gumbel": ("gumbel_softmax", {"temperature": 0.7, "num_samples": 2}),
    "hard gumbel": ("gumbel_softmax", {"temperature": 0.7, "hard": True}),
    "soft": ("straight_through", {"backward": "soft", "num_samples": 2}),
    "identity": ("straight_through", {"backward": "identity"}),
    "rebar": ("rebar", {"temperature": 0.7, "strength": 0.8, "num_samples": 2}),
    "relax": ("relax", {"temperature": 0.7, "strength": 0.8, "num_samples": 2}),
    "black box": ("relax", {"strength": 0.0}),
    "enumerated": ("enumerated", {}),
}


def _integrand(a, z, sin):
    """Not linear, with a gradient of its own, different for each row."""
    u = z.reshape(B, -1) @ a["w"]
    return 1.0 + a["shift"] * sin(1.5 * u) + 0.3 * u**2


def _estimates(a, q, key, package, names, sin, number) -> dict:
    """Values, losses of baselines and new states of all estimators."""
    found = {}
    batch = {"weight": number(WEIGHT)}
    for name in names:
        kind, options = SETTINGS[name]
        estimator = getattr(package, kind)(**options)
        extra = {}
        if estimator.learns_baseline:
            extra["baseline"] = a["baseline"]
        if estimator.learns_control:
            extra["baseline"] = lambda z: sin(z.reshape(B, -1) @ a["control"]) * a["baseline"]
        if name in ("moving", "nvil"):
            extra["state"] = {part: number(np.array(value)) for part, value in STATE.items()}
        value, error, state = estimator(
            q, lambda z: _integrand(a, z, sin), key, batch=batch, **extra
        )
        found[name] = value
        if extra.get("baseline") is not None:
            found[f"{name} baseline"] = error
        found |= {f"{name} {part}": value for part, value in state.items()}
    return found


def estimators_row(
    name: str, kind: str, shape: tuple[int, ...], names=tuple(SETTINGS), slow: bool = False
):
    """All estimators of one family of variables; names may pick some for the mutation tests."""
    inputs = {
        "logits": _rng.normal(size=(B, *shape)),
        "w": _rng.normal(size=int(np.prod(shape))),
        "shift": _rng.normal(size=B),
        "baseline": _rng.normal(size=B),
        "control": _rng.normal(size=int(np.prod(shape))),
    }

    def jax_fn(a, key):
        q = jd.Independent(getattr(jd, kind)(logits=a["logits"]), 1)
        return _estimates(
            a, q, key, estimators, names, jnp.sin, lambda v: jnp.asarray(v, a["w"].dtype)
        )

    def torch_fn(a, key):
        q = td.Independent(getattr(td, kind)(logits=a["logits"]), 1)
        return _estimates(
            a, q, key, twins, names, torch.sin, lambda v: torch.as_tensor(v).to(a["w"])
        )

    return FunctionCase(name, jax_fn, torch_fn, inputs, slow=slow)


def _pathwise_jax(a, key):
    q = jd.Normal(a["loc"], jnp.exp(a["log_scale"]))
    value = estimators.reparameterized(3)(q, lambda z: jnp.sin(z) * a["loc"], key).value
    return {"reparameterized": value}


def _pathwise_torch(a, key):
    q = td.Normal(a["loc"], a["log_scale"].exp())
    value = twins.reparameterized(3)(q, lambda z: z.sin() * a["loc"], key).value
    return {"reparameterized": value}


def _exact_jax(a, key):
    q = jd.Categorical(logits=a["logits"])

    def reward(p, z):
        return jnp.sin(p["logits"][:, 0] * z)

    def make(p):
        return jd.Categorical(logits=p["logits"])

    def at_the_edge(p):
        return jd.Independent(jd.Bernoulli(probs=p["probs"]), 1)

    gradient = estimators.exact_gradient(make, reward, 2)({"logits": a["logits"]})["logits"]
    edge = estimators.exact_gradient(at_the_edge, lambda p, z: jnp.sin(z @ a["w"]))
    return {
        "states": estimators.states(q),
        "slopes at 0 and 1": edge({"probs": a["edge"]})["probs"],
        "objective": estimators.exact_objective(q, partial(reward, a), 2),
        "gradient": gradient,
    }


def _exact_torch(a, key):
    logits = a["logits"].clone().requires_grad_()
    q = td.Categorical(logits=logits)

    def reward(p, z):
        return torch.sin(p[0][:, 0] * z)

    def make(p):
        return td.Categorical(logits=p[0])

    def at_the_edge(p):
        return td.Independent(td.Bernoulli(probs=p[0]), 1)

    (gradient,) = twins.exact_gradient(make, reward, 2)([logits])
    probs = a["edge"].clone().requires_grad_()
    (edge,) = twins.exact_gradient(at_the_edge, lambda p, z: torch.sin(z @ a["w"]))([probs])
    return {
        "states": twins.states(q),
        "slopes at 0 and 1": edge,
        "objective": twins.exact_objective(q, partial(reward, [logits]), 2),
        "gradient": gradient,
    }


D, LATENTS = 4, 2
BATCH = {"x": _rng.integers(0, 2, (B, D)) * 1.0, "mask": _rng.random((B, D)) < 0.8}


def _bounds(package, package_of_estimators, model) -> dict:
    """Losses of a discrete VAE, by those estimators that have no row of `vae_discrete`."""
    return {
        name: package.negative_discrete_elbo(
            model, getattr(package_of_estimators, SETTINGS[name][0])(**SETTINGS[name][1])
        )
        for name in ("wake", "hard gumbel", "soft", "rebar")
    }


class Bounds(torch.nn.Module):
    """The twins' losses, as a forward pass that `functional_call` can differentiate."""

    def __init__(self):
        super().__init__()
        self.model = torch_vae.DiscreteVAE(
            torch_nn.MLP(D, (3,), torch.tanh), torch_heads.BernoulliHead(LATENTS, D), 3, LATENTS
        )

    def forward(self, batch, key):
        losses = _bounds(torch_vae, twins, self.model)
        return {name: loss_fn(batch, key)[0] for name, loss_fn in losses.items()}


def bounds_row(name: str) -> FunctionCase:
    """The gradient of every weight, of all these losses in one program."""
    model = vae.DiscreteVAE(nn.MLP((3,), jnp.tanh), heads.BernoulliHead(D), LATENTS)

    def jax_fn(a, key):
        batch = {part: jax.lax.stop_gradient(a[part]) for part in BATCH}
        losses = _bounds(vae, estimators, model)
        return {name: loss_fn(to_params(a), batch, key)[0] for name, loss_fn in losses.items()}

    def torch_fn(a, key):
        module, batch = Bounds(), {part: a[part].detach() for part in BATCH}
        return functional_call(module, to_tensors(a, module, "model."), (batch, key))

    return FunctionCase(
        name, jax_fn, torch_fn, {**BATCH, **weights.drawn(model, BATCH["x"], jax.random.key(0))}
    )


def _vimco(package, q, key, a, log_w):
    """Where z = 0 the weight is 0: draws that weigh nothing beside such that weigh something."""
    return {"value": package.vimco(3)(q, lambda z: log_w(z, a["w"] * z), key).value}


FUNCTIONS = [
    estimators_row("estimators, binary", "Bernoulli", (SIZE,)),
    estimators_row("estimators, one-hot", "OneHotCategorical", (2, 3), slow=True),
    FunctionCase(
        "estimators, pathwise", _pathwise_jax, _pathwise_torch,
        {"loc": _rng.normal(size=B), "log_scale": _rng.normal(size=B)},
    ),
    FunctionCase(
        "estimators, exact", _exact_jax, _exact_torch,
        {"logits": _rng.normal(size=(B, 3)), "edge": np.array([[0.0, 0.3, 1.0]]),
         "w": np.array([0.4, -1.3, 0.8])},
        differentiable=False,
    ),
    bounds_row("estimators, discrete VAE"),
    FunctionCase(
        "VIMCO, weights of 0",
        lambda a, key: _vimco(estimators, jd.Bernoulli(logits=a["logits"]), key, a,
                              lambda z, value: jnp.where(z > 0, value, -jnp.inf)),
        lambda a, key: _vimco(twins, td.Bernoulli(logits=a["logits"]), key, a,
                              lambda z, value: torch.where(z > 0, value, -torch.inf)),
        {"logits": np.linspace(0.9, 1.8, 12), "w": np.linspace(-1.0, 1.0, 12)},
    ),
]  # fmt: skip
