"""Rows of the Laplace approximation and of streaming: curvature, evidence, draws, updates.

Ours never forms a matrix that it can do without, the twins form them all.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

import jaxprob.bayes as jb
import torch_ref.bayes as tb
from jaxprob import supervised
from jaxprob.objectives import GaussianPrior
from parity_tests import weights
from parity_tests.engine import FunctionCase
from parity_tests.weights import to_module, to_params, to_paths
from torch_ref import supervised as torch_supervised
from torch_ref.bayes.streaming import pack
from torch_ref.objectives import GaussianPrior as TorchGaussianPrior

ROWS, INPUTS = 12, 2
SCALES = (0.3, 0.9, 2.5)
_rng = np.random.default_rng(5)
_x = _rng.normal(size=(ROWS, INPUTS))
TARGETS = {
    "normal": np.sin(2 * _x[:, :1]) + 0.1 * _rng.normal(size=(ROWS, 1)),
    "bernoulli": (_x[:, :1] > 0.2) * 1.0,
    "categorical": _rng.integers(0, 3, ROWS),
}
MODELS_OF = {
    "normal": (
        lambda hidden: supervised.GaussianRegressor(hidden, activation=nn.tanh),
        lambda hidden: torch_supervised.GaussianRegressor(INPUTS, hidden, 1, torch.tanh),
    ),
    "bernoulli": (
        lambda hidden: supervised.BernoulliClassifier(hidden, activation=nn.tanh),
        lambda hidden: torch_supervised.BernoulliClassifier(INPUTS, hidden, 1, torch.tanh),
    ),
    "categorical": (
        lambda hidden: supervised.CategoricalClassifier(3, hidden, nn.tanh),
        lambda hidden: torch_supervised.CategoricalClassifier(INPUTS, 3, hidden, torch.tanh),
    ),
}


def weights_of(model) -> dict[str, np.ndarray]:
    """Weights by path: the same for both sides."""
    return weights.drawn(model, np.zeros((1, INPUTS)), size=0.6)


def laplace_row(
    name: str,
    kind: str,
    structure: str,
    hidden: tuple[int, ...] = (3,),
    mutate=None,
    slow: bool = True,
) -> FunctionCase:
    """Fit, evidence, tuned prior, draws and predictive of one structure; `mutate(state)` breaks."""
    model = MODELS_OF[kind][0](hidden)
    laplace = jb.Laplace(
        model, np.zeros((1, INPUTS)), structure, GaussianPrior(0.8, 0.1), chunk_size=5
    )

    def ours(a, key):
        state, _ = laplace._fitted(to_params(a), {n: a[n] for n in ("x", "y", "weight")})
        state = state if mutate is None else mutate(state)

        def evidence(scale):
            return laplace.log_marginal_likelihood(state, scale)

        draws = weights.paths(laplace.sample(state, key, 3))
        predictive = laplace.predict_glm(state, a["x"])
        step = jax.tree.map(lambda w: w[0], laplace.sample(state, key, 1))
        linear = laplace.linearized(state).apply({"params": step}, a["x"])
        return {
            "log likelihood": state.log_likelihood,
            "evidence": jax.vmap(evidence)(jnp.asarray(SCALES, a["x"].dtype)),
            "slope": jax.grad(evidence)(state.prior_scale),
            "tuned": laplace.tune_prior(state).prior_scale,
            "head": draws["head/out/kernel"],
            "backbone": draws["backbone/hidden_0/kernel"],
            "glm": predictive.log_prob(a["y"]),
            "glm, logits": laplace.predict_glm(state, a["x"], "logits").log_prob(a["y"]),
            "linear": linear.log_prob(a["y"]),
        }

    def twins(a, key):
        module = to_module(a, MODELS_OF[kind][1](hidden))
        twin = tb.Laplace(module, structure, TorchGaussianPrior(0.8, 0.1))
        state = twin.fit({n: a[n] for n in ("x", "y", "weight")})
        scale = state.prior_scale.clone().requires_grad_()
        twin.log_marginal_likelihood(state, scale).backward()
        draws = to_paths(twin.sample(state, key, 3))
        step = {n: w[0] for n, w in twin.sample(state, key, 1).items()}
        return {
            "log likelihood": state.log_likelihood,
            "evidence": torch.stack(
                [
                    twin.log_marginal_likelihood(state, torch.tensor(s, dtype=a["x"].dtype))
                    for s in SCALES
                ]
            ),
            "slope": scale.grad,
            "tuned": twin.tune_prior(state).prior_scale,
            "head": draws["head/out/kernel"],
            "backbone": draws["backbone/hidden_0/kernel"],
            "glm": twin.predict_glm(state, a["x"]).log_prob(a["y"]).detach(),
            "glm, logits": twin.predict_glm(state, a["x"], "logits").log_prob(a["y"]).detach(),
            "linear": twin.linearized(state)(step, a["x"]).log_prob(a["y"]).detach(),
        }

    weight = np.random.default_rng(2).integers(0, 3, ROWS) * 1.0
    inputs = {"x": _x, "y": TARGETS[kind], "weight": weight, **weights_of(model)}
    return FunctionCase(name, ours, twins, inputs, differentiable=False, slow=slow)


def online_laplace_row(
    name: str, structure: str, forget: bool = False, slow: bool = True
) -> FunctionCase:
    """Two updates of a classifier; `forget` drops the old precision from ours."""
    model = MODELS_OF["bernoulli"][0](())
    laplace = jb.Laplace(model, np.zeros((1, INPUTS)), structure, GaussianPrior(0.8, 0.1))

    def ours(a, key):
        from jaxprob.bayes.streaming import _to_mode

        state = jb.prior_params(laplace, to_params(a))
        for rows in (slice(0, 5), slice(5, ROWS)):
            if forget:
                zero = jax.tree.map(jnp.zeros_like, state.curvature)
                state = state._replace(curvature=zero)
            data = {"x": a["x"][rows], "y": a["y"][rows]}
            state, _ = _to_mode(laplace, 40, state, state.mean, data)
        head = state.mean["head"]["out"]
        return {
            "bias": head["bias"],
            "kernel": head["kernel"],
            "evidence": laplace.log_marginal_likelihood(state),
            "draws": laplace.sample(state, key, 3)["head"]["out"]["kernel"],
            "rows": state.num_data,
        }

    def twins(a, key):
        twin = tb.Laplace(
            to_module(a, MODELS_OF["bernoulli"][1](())), structure, TorchGaussianPrior(0.8, 0.1)
        )
        state = tb.prior_params(twin)
        for rows in (slice(0, 5), slice(5, ROWS)):
            state = tb.update(twin, state, {"x": a["x"][rows], "y": a["y"][rows]}, num_steps=40)
        mean = to_paths(state.mean)
        return {
            "bias": mean["head/out/bias"],
            "kernel": mean["head/out/kernel"],
            "evidence": twin.log_marginal_likelihood(state),
            "draws": to_paths(twin.sample(state, key, 3))["head/out/kernel"],
            "rows": state.num_data,
        }

    inputs = {"x": _x, "y": TARGETS["bernoulli"], **weights_of(model)}
    return FunctionCase(name, ours, twins, inputs, differentiable=False, slow=slow)


def natural_gradient_row(
    name: str, covariance: str, step_size: float = 0.5, slow: bool = True
) -> FunctionCase:
    """Two updates of a small network, three steps each, from the same draws."""
    model = MODELS_OF["bernoulli"][0]((2,))
    q = jb.GaussianPosterior(model, np.zeros((1, INPUTS)), covariance, GaussianPrior(0.4, 0.1))
    batches = (slice(0, 5), slice(5, ROWS))

    def ours(a, key):
        params = jb.prior_params(q, to_params(a))
        for rows in batches:
            data = {"x": a["x"][rows], "y": a["y"][rows]}
            options = {"num_steps": 3, "num_samples": 2, "step_size": step_size}
            params = jb.update(q, params, data, key=key, **options)
        return weights.paths(params["posterior"])

    def twins(a, key):
        module = to_module(a, MODELS_OF["bernoulli"][1]((2,)))
        twin = tb.GaussianPosterior(module, covariance, TorchGaussianPrior(0.4, 0.1))
        blocks = tb.prior_params(twin)
        for rows in batches:
            data = {"x": a["x"][rows], "y": a["y"][rows]}
            blocks = tb.update(twin, blocks, data, key, 3, 0.5, 2)
        found = {}
        for group, (loc, precision) in blocks.items():
            leaf = "raw_scale" if covariance == "diagonal" else "raw_tril"
            found[f"{group}/loc"] = loc
            found[f"{group}/{leaf}"] = pack(twin.posterior[group], precision).detach()
        return found

    inputs = {"x": _x, "y": TARGETS["bernoulli"], **weights_of(model)}
    return FunctionCase(name, ours, twins, inputs, differentiable=False, slow=slow)


FUNCTIONS = [
    laplace_row("laplace kron, normal", "normal", "kron", (3, 3), slow=False),
    laplace_row("laplace full, categorical", "categorical", "full"),
    laplace_row("laplace diagonal, bernoulli", "bernoulli", "diagonal"),
    laplace_row("laplace last layer, normal", "normal", "last_layer"),
    online_laplace_row("online laplace full", "full"),
    online_laplace_row("online laplace kron", "kron"),
    natural_gradient_row("natural gradient full", "full"),
    dataclasses.replace(
        natural_gradient_row("natural gradient layer", "layer", slow=False), second=True
    ),
    natural_gradient_row("natural gradient diagonal", "diagonal"),
]
