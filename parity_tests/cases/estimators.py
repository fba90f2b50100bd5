"""Rows of the gradient estimators: surrogates and their gradients from the same key."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import torch

from jaxprob import distributions as jd
from jaxprob.objectives import estimators
from parity_tests.engine import FunctionCase
from torch_ref import distributions as td
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

    gradient = estimators.exact_gradient(make, reward, 2)({"logits": a["logits"]})["logits"]
    return {
        "states": estimators.states(q),
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

    (gradient,) = twins.exact_gradient(make, reward, 2)([logits])
    return {
        "states": twins.states(q),
        "objective": twins.exact_objective(q, partial(reward, [logits]), 2),
        "gradient": gradient,
    }


FUNCTIONS = [
    estimators_row("estimators, binary", "Bernoulli", (SIZE,)),
    estimators_row("estimators, one-hot", "OneHotCategorical", (2, 3), slow=True),
    FunctionCase(
        "estimators, pathwise", _pathwise_jax, _pathwise_torch,
        {"loc": _rng.normal(size=B), "log_scale": _rng.normal(size=B)},
    ),
    FunctionCase(
        "estimators, exact", _exact_jax, _exact_torch, {"logits": _rng.normal(size=(B, 3))},
        differentiable=False,
    ),
]  # fmt: skip
