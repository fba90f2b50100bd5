"""Rows of the flows: both directions, densities of data and of own draws, losses, energies.

A flow's row is a function of its weights and of data, so that values and the gradient of every
weight come from one program; whole training runs stand in `MODELS`.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import torch
from torch.func import functional_call

from jaxprob import flows, nn
from jaxprob.flows import splines
from parity_tests import weights
from parity_tests.cases.bayes import DATA, OPTIMIZERS
from parity_tests.engine import FunctionCase, ModelCase
from parity_tests.weights import to_params, to_tensors
from torch_ref import flows as twins
from torch_ref import nn as twin_nn
from torch_ref.flows import splines as twin_splines

B, D, C, DRAWS = 6, 3, 2, 4
HIDDEN = (5, 5)
_rng = np.random.default_rng(8)
X = _rng.normal(0.0, 1.5, (B, D))
CONDITION = _rng.normal(size=(B, C))


class Facts(torch.nn.Module):
    """What is compared of a flow, as a forward pass that `functional_call` can differentiate."""

    def __init__(self, flow: torch.nn.Module):
        super().__init__()
        self.flow = flow

    def forward(self, x, condition, key):
        z, log_det = self.flow.inverse(x, condition)
        draws, log_q = self.flow.sample_and_log_prob(key, (DRAWS,), condition)
        log_prob = self.flow.log_prob(x, condition)
        return {"z": z, "log_det": log_det, "draws": draws, "log_q": log_q, "log_prob": log_prob}


def flow_row(
    name: str,
    model: flows.Flow,
    twin: Callable[[], torch.nn.Module],
    condition: bool = False,
    size: float = 0.4,
    slow: bool = False,
) -> FunctionCase:
    """A flow; the twin may be built wrong, or the weights be large, for the mutation tests."""
    given = {"condition": CONDITION} if condition else {}

    def jax_fn(a, key):
        variables = {"params": to_params(a)}

        def facts(model, x, condition):
            z, log_det = model.inverse(x, condition)
            draws, log_q = model.sample_and_log_prob(key, (DRAWS,), condition)
            return {"z": z, "log_det": log_det, "draws": draws, "log_q": log_q,
                    "log_prob": model.base_log_prob(z) + log_det}  # fmt: skip

        return model.apply(variables, a["x"], a.get("condition"), method=facts)

    def torch_fn(a, key):
        module = Facts(twin())
        return functional_call(
            module, to_tensors(a, module, "flow."), (a["x"], a.get("condition"), key)
        )

    return FunctionCase(
        name,
        jax_fn,
        torch_fn,
        {"x": X, **given, **weights.drawn(model, X, *given.values(), size=size)},
        slow=slow,
    )


def _spline(package, num_layers: int = 2, **options):
    return package.spline_coupling(D, num_layers, HIDDEN, bins=4, bound=2.5, **options)


def made_row() -> FunctionCase:
    """The masked network alone: three hidden layers, an order of its own, a condition."""
    order, hidden = (2, 0, 1), (4, 7, 5)
    made = nn.MADE(D, hidden, 2, order, jnp.tanh)

    def torch_fn(a, key):
        module = twin_nn.MADE(D, hidden, 2, order, torch.tanh, C)
        return {"out": functional_call(module, to_tensors(a, module), (a["x"], a["condition"]))}

    return FunctionCase(
        "MADE",
        lambda a, key: {"out": made.apply({"params": to_params(a)}, a["x"], a["condition"])},
        torch_fn,
        {"x": X, "condition": CONDITION, **weights.drawn(made, X, CONDITION)},
    )


def spline_row(name: str, twin: Callable = twin_splines.rational_quadratic) -> FunctionCase:
    """Splines alone, inside and outside of their interval; the twin may be built wrong.

    They are moderate: in steep ones the published inverse, which the twin is, loses digits of
    float32 that ours keeps.
    """
    rng = np.random.default_rng(5)

    def values(fn, a):
        y, log_slope = fn(a["x"], a["raw"], 2.5)
        x, back = fn(a["x"], a["raw"], 2.5, inverse=True)
        return {"y": y, "log_slope": log_slope, "x": x, "log_slope back": back}

    return FunctionCase(
        name,
        lambda a, key: values(splines.rational_quadratic, a),
        lambda a, key: values(twin, a),
        {"x": np.linspace(-3.0, 3.0, 40), "raw": 0.7 * rng.normal(size=(40, 11))},
    )


def energies_row() -> FunctionCase:
    """Energies, walls and normalisers."""

    def values(package, a):
        out = {}
        for name in ("u1", "u2", "u3", "u4"):
            log_density = package.energies.confined(getattr(package.energies, name), 2.0)
            out[name] = log_density(a["x"])
            out[f"log Z {name}"] = package.energies.log_normalizer(log_density, 4.0, 40)
        return out

    x = np.random.default_rng(2).uniform(-3.0, 3.0, (9, 2))
    return FunctionCase(
        "flow energies",
        lambda a, key: values(flows, a),
        lambda a, key: values(twins, a),
        {"x": x},
    )


FUNCTIONS = [
    made_row(),
    spline_row("rational-quadratic spline"),
    energies_row(),
    flow_row(
        "flow coupling",
        flows.coupling(D, 2, HIDDEN, mean=0.5, std=(1.0, 2.0, 3.0)),
        lambda: twins.coupling(D, 2, HIDDEN, mean=0.5, std=(1.0, 2.0, 3.0)),
    ),
    flow_row("flow spline coupling, LU", _spline(flows, 1), lambda: _spline(twins, 1)),
    flow_row(
        "flow MAF",
        flows.masked_autoregressive(D, 2, HIDDEN),
        lambda: twins.masked_autoregressive(D, 2, HIDDEN),
    ),
    flow_row("flow planar", flows.planar(D, 3), lambda: twins.planar(D, 3)),
    flow_row(
        "flow LU, permutation",
        flows.Flow(D, (flows.LULinear(D), flows.Permutation((2, 0, 1)))),
        lambda: twins.Flow(D, [twins.LULinear(D), twins.Permutation((2, 0, 1))]),
    ),
    flow_row(
        "flow IAF, condition",
        flows.inverse_autoregressive(D, 2, HIDDEN),
        lambda: twins.inverse_autoregressive(D, 2, HIDDEN, condition_features=C),
        condition=True,
    ),
    flow_row(
        "flow coupling, LU, condition",
        flows.coupling(D, 2, HIDDEN, linear=True),
        lambda: twins.coupling(D, 2, HIDDEN, linear=True, condition_features=C),
        condition=True,
        slow=True,
    ),
    flow_row(
        "flow spline coupling, condition",
        _spline(flows, linear=False),
        lambda: _spline(twins, linear=False, condition_features=C),
        condition=True,
        slow=True,
    ),
    flow_row(
        "flow planar, condition",
        flows.planar(D, 3, (4,)),
        lambda: twins.planar(D, 3, (4,), condition_features=C),
        condition=True,
        slow=True,
    ),
]


def likelihood_row(name: str, build: Callable, slow: bool) -> ModelCase:
    """Training by maximum likelihood of y given x, with weights."""
    model = build(flows)
    loss = {"event": "y", "condition": "x"}
    rows = len(DATA["x"])
    y = np.concatenate([DATA["y"], DATA["x"] @ [[1.0], [0.5]]], 1)
    weight = np.random.default_rng(1).uniform(0, 2, rows)

    return ModelCase(
        name=name,
        init=lambda key: model.init(key, y[:1], DATA["x"][:1])["params"],
        jax_loss=flows.negative_log_likelihood(model, **loss),
        jax_outputs=lambda params, batch, key: {
            "log_prob": model.apply({"params": params}, batch["y"], batch["x"])
        },
        build_torch=lambda: build(twins, condition_features=2),
        torch_loss=lambda module: twins.negative_log_likelihood(module, **loss),
        torch_outputs=lambda module, batch, key: {
            "log_prob": module.log_prob(batch["y"], batch["x"])
        },
        data={"x": DATA["x"], "y": y, "weight": weight},
        optimizers=OPTIMIZERS,
        slow=slow,
    )


def energy_row(name: str, build: Callable, slow: bool) -> ModelCase:
    """Training by reverse KL on the ring with two bumps; the data only count the steps."""
    model = build(flows)
    options = {"num_samples": 8, "weight": 0.7}

    return ModelCase(
        name=name,
        init=lambda key: model.init(key, np.zeros((1, 2)))["params"],
        jax_loss=flows.reverse_kl(model, flows.energies.confined(flows.energies.u1), **options),
        jax_outputs=lambda params, batch, key: {
            "draws": model.apply({"params": params}, key, (5,), method="sample")
        },
        build_torch=lambda: build(twins),
        torch_loss=lambda module: twins.reverse_kl(
            module, twins.energies.confined(twins.energies.u1), **options
        ),
        torch_outputs=lambda module, batch, key: {"draws": module.sample(key, (5,))},
        data={"x": DATA["x"]},
        optimizers=OPTIMIZERS,
        slow=slow,
    )


MODELS = [
    likelihood_row("flow coupling, likelihood", lambda p, **o: p.coupling(2, 2, (4,), **o), True),
    likelihood_row(
        "flow MAF, likelihood", lambda p, **o: p.masked_autoregressive(2, 1, (4,), **o), False
    ).fitted("long"),
    energy_row("flow planar, reverse KL", lambda p: p.planar(2, 3), True),
    energy_row("flow spline, reverse KL", lambda p: p.spline_coupling(2, 2, (4,), bins=4), True),
]
