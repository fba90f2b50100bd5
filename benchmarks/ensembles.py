"""Ensembles side by side with PyTorch: 20 members trained, 100 draws predicted.

The network is 13-50-50-2 (ReLU), its two outputs a mean and a log-scale; batches of 100, Adam; one
process, the same arrays, one thread each. Peers: `torch.func.vmap` over stacked modules with one
Adam over the stack, and a loop over modules. All take turns; medians count, compile time is its own
column. Ratios are a peer's time over ours: above 1 we are faster.

    python benchmarks/ensembles.py
    python benchmarks/ensembles.py --members 20 --rows 1000 --epochs 20 --draws 100
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable

if hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from jaxprob import bayes, optim, training  # noqa: E402
from jaxprob.distributions import Independent, Normal  # noqa: E402
from jaxprob.objectives import negative_log_likelihood  # noqa: E402

torch.set_num_threads(1)
INPUTS, WIDTH, BATCH, RATE = 13, 50, 100, 1e-3


class Network(nn.Module):
    """Mean and scale of one target."""

    @nn.compact
    def __call__(self, x):
        """Maps `[B, 13]` to a distribution over `[B, 1]`."""
        h = nn.relu(nn.Dense(WIDTH)(x))
        h = nn.relu(nn.Dense(WIDTH)(h))
        loc, raw = jnp.split(nn.Dense(2)(h), 2, axis=-1)
        return Independent(Normal(loc, jnp.exp(jnp.clip(raw, -10, 5))), 1)


def torch_network() -> torch.nn.Module:
    """The same layers."""
    return torch.nn.Sequential(
        torch.nn.Linear(INPUTS, WIDTH), torch.nn.ReLU(), torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(), torch.nn.Linear(WIDTH, 2),
    )  # fmt: skip


def torch_loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The same negative log-likelihood."""
    scale = out[..., 1:].clamp(-10, 5).exp()
    return -torch.distributions.Normal(out[..., :1], scale, validate_args=False).log_prob(y).mean()


def batches(rows: int, generator: torch.Generator):
    """Shuffled rows of an epoch."""
    return torch.randperm(rows, generator=generator).split(BATCH)


def train_vmap(modules: list, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """All members at once by torch.func, each with its own order of the rows."""
    params, buffers = torch.func.stack_module_state(modules)
    base = copy.deepcopy(modules[0]).to("meta")
    params = {n: p.detach().requires_grad_() for n, p in params.items()}

    def loss_of(p, b, x, y):
        return torch_loss(torch.func.functional_call(base, (p, b), (x,)), y)

    gradient = torch.func.vmap(torch.func.grad(loss_of))
    adam = torch.optim.Adam(params.values(), RATE)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        orders = [batches(len(x), generator) for _ in modules]
        for i in range(len(orders[0])):
            rows = torch.stack([order[i] for order in orders])
            found = gradient(params, buffers, x[rows], y[rows])
            for name, p in params.items():
                p.grad = found[name]
            adam.step()


def train_loop(modules: list, x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """One member after the other."""
    generator = torch.Generator().manual_seed(0)
    for module in modules:
        adam = torch.optim.Adam(module.parameters(), RATE)
        for _ in range(epochs):
            for rows in batches(len(x), generator):
                adam.zero_grad()
                torch_loss(module(x[rows]), y[rows]).backward()
                adam.step()


@torch.no_grad()
def predict_loop(modules: list, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of the mixture, one draw after the other."""
    out = torch.stack([module(x) for module in modules])
    loc, scale = out[..., :1], out[..., 1:].clamp(-10, 5).exp()
    return loc.mean(0), (scale**2).mean(0) + loc.var(0, unbiased=False)


def predict_vmap(modules: list) -> Callable:
    """The same by torch.func over a stack that is made once."""
    params, buffers = torch.func.stack_module_state(modules)
    base = copy.deepcopy(modules[0]).to("meta")
    call = torch.func.vmap(lambda p, b, x: torch.func.functional_call(base, (p, b), (x,)),
                           in_dims=(0, 0, None))  # fmt: skip

    @torch.no_grad()
    def predict(x):
        out = call(params, buffers, x)
        loc, scale = out[..., :1], out[..., 1:].clamp(-10, 5).exp()
        return loc.mean(0), (scale**2).mean(0) + loc.var(0, unbiased=False)

    return predict


def turns(runs: dict[str, Callable], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """First call and median of the later ones, in wall seconds, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    first = {name: of[0] for name, of in times.items()}
    return first, {name: statistics.median(of[1:]) for name, of in times.items()}


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--test-rows", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(args.rows, INPUTS)).astype(np.float32)
    y = (np.sin(x[:, :1]) + 0.1 * rng.normal(size=(args.rows, 1))).astype(np.float32)
    x_test = rng.normal(size=(args.test_rows, INPUTS)).astype(np.float32)
    model, key = Network(), jax.random.key(0)
    loss_fn, adam = negative_log_likelihood(model), optim.adam(RATE)

    def members(count: int):
        keys = jax.random.split(key, count)
        return jax.vmap(lambda k: model.init(k, jnp.asarray(x[:1]))["params"])(keys)

    start, draws = members(args.members), members(args.draws)

    def ours():
        fitted = training.fit_ensemble(
            loss_fn, start, {"x": x, "y": y}, optimizer=adam, epochs=args.epochs,
            batch_size=BATCH, key=key, progress=False,
        )  # fmt: skip
        jax.block_until_ready(fitted.params)

    moments = jax.jit(lambda p: (p.mean(), p.variance()))

    def ours_predict():
        jax.block_until_ready(moments(bayes.predict(model, draws, x_test)))

    tx, ty, tx_test = (torch.from_numpy(a) for a in (x, y, x_test))
    modules = [torch_network() for _ in range(args.members)]
    many = [torch_network() for _ in range(args.draws)]
    by_vmap = predict_vmap(many)
    table = Table("task", "ours ms", "torch.func vmap ms", "torch loop ms", "ratio to vmap",
                  "ratio to loop", "our compile s")  # fmt: skip
    print(f"load average {os.getloadavg()}, torch {torch.__version__}, jax {jax.__version__}")
    tasks = {
        f"train {args.members} members, {args.epochs} epochs of {args.rows} rows": {
            "ours": ours,
            "vmap": lambda: train_vmap(copy.deepcopy(modules), tx, ty, args.epochs),
            "loop": lambda: train_loop(copy.deepcopy(modules), tx, ty, args.epochs),
        },
        f"predict {args.test_rows} rows with {args.draws} draws": {
            "ours": ours_predict,
            "vmap": lambda: by_vmap(tx_test),
            "loop": lambda: predict_loop(many, tx_test),
        },
    }
    for task, runs in tasks.items():
        repeats = args.repeats if "train" in task else 20 * args.repeats
        first, median = turns(runs, repeats)
        table.add_row(
            task,
            *(f"{1e3 * median[name]:.2f}" for name in ("ours", "vmap", "loop")),
            f"{median['vmap'] / median['ours']:.1f}",
            f"{median['loop'] / median['ours']:.1f}",
            f"{first['ours'] - median['ours']:.1f}",
        )
    Console(width=120).print(table)
    print(f"load average {os.getloadavg()}")


if __name__ == "__main__":
    main()
