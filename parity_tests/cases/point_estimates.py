"""Rows of the posteriors that start from point estimates: ensembles, dropout, SWAG, SGLD, SGHMC."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import jaxprob.bayes as jb
import torch_ref.bayes as tb
from jaxprob import heads, optim, supervised
from jaxprob.objectives import GaussianPrior
from parity_tests.engine import FunctionCase, ModelCase
from parity_tests.weights import paths, to_module, to_params, to_paths, to_tensors
from torch_ref import heads as torch_heads
from torch_ref import supervised as torch_supervised
from torch_ref.objectives import GaussianPrior as TorchGaussianPrior

ROWS = 70  # not a multiple of the batch size: the smaller last batch is part of the proof
_rng = np.random.default_rng(5)
_x = _rng.uniform(-1, 1, (ROWS, 2))
DATA = {"x": _x, "y": np.sin(3 * _x[:, :1]) + 0.3 * _x[:, 1:] * _rng.normal(size=(ROWS, 1))}
WEIGHTED = {**DATA, "weight": np.random.default_rng(2).integers(0, 4, ROWS) * 1.0}
RANGE = np.ptp(_x, axis=0)
OPTIMIZERS = {
    "rmsprop": (optim.rmsprop(0.005), lambda p: torch.optim.RMSprop(p, 0.005)),
    "adam": (optim.adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
}


def regressor() -> supervised.GaussianRegressor:
    """A small network with two layers."""
    return supervised.GaussianRegressor((4,), activation=nn.tanh)


def torch_regressor() -> torch_supervised.GaussianRegressor:
    """Its twin."""
    return torch_supervised.GaussianRegressor(2, (4,), 1, torch.tanh)


def _moments(prediction) -> dict:
    base = prediction.distribution
    return {"loc": base.loc, "scale": base.scale}


def _torch_moments(prediction) -> dict:
    return {"loc": prediction.base_dist.loc, "scale": prediction.base_dist.scale}


def ensemble_row(
    name: str, adversarial: float | None, prior: bool, torch_adversarial: float | None = None
) -> ModelCase:
    """The loss of one member; the last argument breaks the twin for the mutation tests."""
    model = regressor()
    ours = jb.DeepEnsemble(model, np.zeros((1, 2)), 3)
    options = {"num_data": ROWS} if prior else {}
    loss = ours.loss(adversarial, RANGE, GaussianPrior(0.7) if prior else None, **options)
    epsilon = adversarial if torch_adversarial is None else torch_adversarial

    def torch_loss(module):
        twin_prior = TorchGaussianPrior(0.7) if prior else None
        reach = torch.tensor(RANGE).to(next(module.parameters()))
        return tb.DeepEnsemble.loss(module, epsilon, reach, twin_prior, **options)

    return ModelCase(
        name=name,
        init=lambda key: jax.tree.map(lambda leaf: leaf[1], ours.init(key)),
        jax_loss=loss,
        jax_outputs=lambda params, batch, key: _moments(
            model.apply({"params": params}, batch["x"])
        ),
        build_torch=torch_regressor,
        torch_loss=torch_loss,
        torch_outputs=lambda module, batch, key: _torch_moments(module(batch["x"])),
        data=WEIGHTED,
        optimizers=OPTIMIZERS,
    )


class Dropped(nn.Module):
    """Two hidden layers, dropout before the second and before the head."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Maps `[B, 2]` to a normal over `[B, 1]`."""
        x = nn.tanh(nn.Dense(5, name="first")(x))
        x = nn.Dropout(0.3, deterministic=not train)(x)
        x = nn.tanh(nn.Dense(4, name="second")(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return heads.NormalHead(1, name="head")(x)


class TorchDropped(torch.nn.Module):
    """Its twin; `swapped` gives the layers each other's rates."""

    def __init__(self, swapped: bool = False):
        super().__init__()
        rates = (0.1, 0.3) if swapped else (0.3, 0.1)
        self.first, self.second = torch.nn.Linear(2, 5), torch.nn.Linear(5, 4)
        self.drops = torch.nn.ModuleList(map(torch.nn.Dropout, rates))
        self.head = torch_heads.NormalHead(4, 1)

    def forward(self, x):
        """Maps `[B, 2]` to a normal over `[B, 1]`."""
        x = self.drops[0](torch.tanh(self.first(x)))
        return self.head(self.drops[1](torch.tanh(self.second(x))))


def dropout_row(name: str, rate: float | None = None, swapped: bool = False) -> ModelCase:
    """Loss under masks of each row, predictions under masks of each draw."""
    mc = jb.MCDropout(Dropped(), np.zeros((1, 2)), rate)

    def outputs(params, batch, key):
        draws = mc.sample(params, key, 3)
        predictions = jax.vmap(lambda w: mc.model.apply(w, batch["x"]))(draws)
        return _moments(predictions)

    def torch_outputs(module, batch, key):
        twin = tb.MCDropout(module, rate)
        components = tb.predict(twin.model, twin.sample(key, 3), batch["x"]).components
        return _torch_moments(components)

    return ModelCase(
        name=name,
        init=mc.init,
        jax_loss=mc.loss(GaussianPrior(0.7), ROWS),
        jax_outputs=outputs,
        build_torch=lambda: TorchDropped(swapped),
        torch_loss=lambda module: tb.MCDropout(module, rate).loss(TorchGaussianPrior(0.7), ROWS),
        torch_outputs=torch_outputs,
        data=WEIGHTED,
        optimizers=OPTIMIZERS,
    )


def _draws_of_members() -> FunctionCase:
    ours = jb.DeepEnsemble(regressor(), np.zeros((1, 2)), 4)

    def torch_fn(arrays, key):
        twin = tb.DeepEnsemble(lambda: torch.nn.Linear(2, 3), 4)
        for member, weight in zip(twin.members, arrays["members"], strict=True):
            member.weight.data = weight.detach()
        return {"draws": twin.sample(key, 9)["weight"], "all": twin.sample()["weight"]}

    return FunctionCase(
        "deep ensemble, draws of members",
        lambda a, key: {"draws": ours.sample(a["members"], key, 9), "all": a["members"]},
        torch_fn,
        {"members": _rng.normal(size=(4, 3, 2))},
        differentiable=False,
    )


START = {
    "x": _x,
    "y": DATA["y"],
    "first/bias": _rng.normal(size=3),
    "first/kernel": _rng.normal(size=(2, 3)),
    "second/bias": _rng.normal(size=1),
    "second/kernel": _rng.normal(size=(3, 1)),
}
RATE, EVERY, STEPS = 0.1, 3, 30


def _of(kind: str, arrays) -> dict:
    return {f"{kind}/{path}": leaf for path, leaf in arrays.items()}


class Two(torch.nn.Module):
    """Two linear layers, tanh between, from the arrays of START."""

    def __init__(self, arrays):
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
        to_module(arrays, self)

    def forward(self, x):
        """Maps `[B, 2]` to `[B, 1]`."""
        return self.second(torch.tanh(self.first(x)))


def _run(optimizer, arrays):
    """Full-batch least squares; returns the last state of the optimiser."""

    def loss(w):
        hidden = jnp.tanh(arrays["x"] @ w["first"]["kernel"] + w["first"]["bias"])
        out = hidden @ w["second"]["kernel"] + w["second"]["bias"]
        return jnp.mean((arrays["y"] - out) ** 2)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    start = to_params(arrays)
    (_, state), _ = jax.lax.scan(step, (start, optimizer.init(start)), None, STEPS)
    return state


def _torch_run(module, arrays, after_step) -> None:
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (arrays["y"] - module(arrays["x"])).square().mean().backward()
        optimizer.step()
        after_step()


def swag_row(name: str, rank: int, start: int, torch_start: int | None = None) -> FunctionCase:
    """Moments, columns and draws after a run; the last argument breaks the twin."""
    swag = jb.SWAG(rank)
    optimizer = swag.collect(optim.sgd(RATE, momentum=0.9), start, EVERY)

    def jax_fn(arrays, key):
        state = swag.state_of(_run(optimizer, arrays))
        return {
            **_of("mean", paths(swag.mean(state))),
            **_of("variance", paths(state.variance)),
            **(_of("deviations", paths(state.deviations)) if rank else {}),
            **_of("draws", paths(swag.sample(state, key, 4, 0.5))),
        }

    def torch_fn(arrays, key):
        module = Two(arrays)
        twin = tb.SWAG(module, rank, start if torch_start is None else torch_start, EVERY)
        _torch_run(module, arrays, twin.collect)
        return {
            **_of("mean", to_paths(twin.mean())),
            **_of("variance", to_paths(twin.variance())),
            **(_of("deviations", to_paths(twin.deviations())) if rank else {}),
            **_of("draws", to_paths(twin.sample(key, 4, 0.5))),
        }

    return FunctionCase(name, jax_fn, torch_fn, START, differentiable=False)


def _snapshots_row() -> FunctionCase:
    optimizer = jb.snapshots(optim.sgd(RATE, momentum=0.9), 3, 7)

    def torch_fn(arrays, key):
        module = Two(arrays)
        twin = tb.snapshots(module, 3, 7)
        _torch_run(module, arrays, twin.step)
        return to_paths(tb.snapshots_of(twin))

    return FunctionCase(
        "snapshots",
        # four were taken, so the ring of three has come round; the count is not known to a trace
        lambda a, key: paths(jax.tree.map(lambda w: jnp.roll(w, -1, axis=0),
                                          _run(optimizer, a).weights)),
        torch_fn, START, differentiable=False,
    )  # fmt: skip


_shapes = jax.eval_shape(regressor().init, jax.random.key(0), np.zeros((1, 2)))["params"]
CHAINS = {
    **DATA,
    **{path: _rng.normal(size=(2, *w.shape)) for path, w in paths(_shapes).items()},
}


def chains_row(name: str, kind: str, options: dict, run: dict, twin: dict | None = None):
    """Draws of two chains; `twin` changes options of the twin, for the mutation tests."""
    density = jb.minibatch_log_joint(regressor(), GaussianPrior(0.7), ROWS)
    step_size, *others = options["step_size"]
    sampler = getattr(jb, kind)(
        density, **{**options, "step_size": getattr(jb, step_size)(*others)}
    )

    def data_of(arrays):
        return {"x": arrays["x"], "y": arrays["y"]}

    def torch_fn(arrays, key):
        module = torch_regressor()
        init = {name: value.detach() for name, value in to_tensors(arrays, module).items()}
        changed = {**options, **(twin or {})}
        step_size, *others = changed["step_size"]
        changed["step_size"] = getattr(tb, step_size)(*others)
        density = tb.minibatch_log_joint(module, TorchGaussianPrior(0.7), ROWS)
        data = {name: value.detach() for name, value in data_of(arrays).items()}
        sampler = getattr(tb, kind)(module, density, **changed)
        return to_paths(sampler.run(key, init, data, **run))

    def jax_fn(arrays, key):
        return paths(sampler.run(key, to_params(arrays), data_of(arrays), **run).by_chain)

    return FunctionCase(name, jax_fn, torch_fn, CHAINS, differentiable=False)


MODELS = [
    ensemble_row("deep ensemble, adversarial, prior", 0.01, prior=True).fitted("long"),
    ensemble_row("deep ensemble", None, prior=False).later(),
    dropout_row("MC dropout").fitted("long"),
    dropout_row("MC dropout, one rate", 0.25).later(),
]
FUNCTIONS = [
    _draws_of_members(),
    swag_row("SWAG", 4, 5),
    swag_row("SWAG, fewer iterates than columns", 12, 8),
    swag_row("SWAG diagonal", 0, 1),
    _snapshots_row(),
    chains_row(
        "SGLD, falling steps, shuffled", "SGLD", {"step_size": ("PolynomialStepSize", 1e-3)},
        {"num_steps": 18, "batch_size": 16, "num_warmup": 2, "thin": 2},
    ),
    chains_row(
        "SGHMC, cycles, random rows", "SGHMC",
        {"step_size": ("CyclicalStepSize", 1e-3, 8, 0.4), "friction": 0.2, "gradient_noise": 0.05,
         "temperature": 0.5},
        {"num_steps": 18, "batch_size": 16, "rows": "random"},
    ),
]  # fmt: skip
