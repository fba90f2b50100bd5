"""Convolutional nets where they train: `fit`, ensembles, predictions, beside a step alone, torch.

The net has two 3 x 3 convolutions, 16-32-32 channels, on 14 x 14 images, batches of 64, once of
`jaxprob.nn` and once of Linen's layers; the VAE is `ConvVAE` on 28 x 28, batches of 128. One
process, the same arrays, one thread each; medians. "Step alone" is the jitted step of the plain
Linen net outside of any loop, as XLA compiles it by itself.

    python benchmarks/conv.py
    python benchmarks/conv.py --draws 20 --members 4
"""

import argparse
import os
import time
from collections.abc import Callable

if hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import flax.linen as linen  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from timing import median_seconds  # noqa: E402

from jaxprob import bayes, nn, training, vae  # noqa: E402
from jaxprob.heads import CategoricalHead  # noqa: E402
from jaxprob.objectives import negative_log_likelihood  # noqa: E402

torch.set_num_threads(1)
BATCH, BATCHES, KEY = 64, 10, jax.random.key(0)


class Ours(linen.Module):
    """The net with layers of this package."""

    @linen.compact
    def __call__(self, x):
        """Maps `[B, 14, 14, 16]` to classes."""
        for name in ("first", "second"):
            x = linen.relu(nn.Conv(32, (3, 3), padding=1, name=name)(x))
        return CategoricalHead(10)(x.mean((1, 2)))


class Linens(linen.Module):
    """The net with Linen's."""

    @linen.compact
    def __call__(self, x):
        """Maps `[B, 14, 14, 16]` to classes."""
        for name in ("first", "second"):
            x = linen.relu(linen.Conv(32, (3, 3), name=name)(x))
        return CategoricalHead(10)(x.mean((1, 2)))


def fit(loss_fn, params, data, adam, members: bool = False) -> Callable[[], object]:
    """A call of one epoch."""
    train = training.fit_ensemble if members else training.fit
    size = BATCH if "y" in data else 2 * BATCH

    def run():
        fitted = train(loss_fn, params, data, optimizer=adam, epochs=1, batch_size=size, key=KEY,
                       progress=False)  # fmt: skip
        jax.block_until_ready(fitted.params)

    return run


def alone(loss_fn, params, batch, adam) -> Callable[[], object]:
    """One step, jitted by itself."""
    state = adam.init(params)

    @jax.jit
    def step(params, state):
        slope = jax.grad(lambda p: loss_fn(p, batch))(params)
        updates, state = adam.update(slope, state)
        return optax.apply_updates(params, updates), state

    return lambda: jax.block_until_ready(step(params, state))


def torch_steps(x: np.ndarray, y: np.ndarray, members: int) -> Callable[[], object]:
    """One eager step of each of several nets."""
    images = torch.from_numpy(x).movedim(-1, 1).contiguous()
    labels = torch.from_numpy(y)
    nets = []
    for _ in range(members):
        conv = torch.nn.Sequential(
            torch.nn.Conv2d(16, 32, 3, padding=1), torch.nn.ReLU(),
            torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.ReLU(),
        )  # fmt: skip
        net = torch.nn.ModuleList([conv, torch.nn.Linear(32, 10)])
        nets.append((net, torch.optim.Adam(net.parameters(), 1e-3)))

    def run():
        for (conv, linear), adam in nets:
            adam.zero_grad()
            logits = linear(conv(images).mean((2, 3)))
            torch.nn.functional.cross_entropy(logits, labels).backward()
            adam.step()

    return run


def seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """First call and median of those after it."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin, median_seconds(run, repeats)


def net_rows(model, table: Table, args: argparse.Namespace, step: float) -> None:
    """Rows of one kind of layers."""
    rng, name = np.random.default_rng(0), type(model).__name__
    rows = BATCH * BATCHES
    data = {
        "x": rng.normal(size=(rows, 14, 14, 16)).astype(np.float32),
        "y": rng.integers(0, 10, rows),
    }
    adam, loss_fn = optax.adam(1e-3), negative_log_likelihood(model)
    init = jax.jit(jax.vmap(lambda key: model.init(key, data["x"][:1])["params"]))
    many = init(jax.random.split(KEY, args.draws))
    members = jax.tree.map(lambda w: w[: args.members], many)
    one = jax.tree.map(lambda w: w[0], many)

    def predict():
        jax.block_until_ready(bayes.predict(model, many, data["x"][:256]).components.logits)

    for task, run, count in (
        ("a step in fit", fit(loss_fn, one, data, adam), BATCHES),
        (f"a member's step, {args.members} in fit_ensemble",
         fit(loss_fn, members, data, adam, members=True), BATCHES * args.members),
        (f"a draw of {args.draws} predicted on 256 images", predict, args.draws),
    ):  # fmt: skip
        first, median = seconds(run, args.repeats)
        ratio = f"{median / count / step:.2f}" if "step" in task else ""
        table.add_row(f"{name}: {task}", f"{1e3 * median / count:.2f}", ratio, f"{first:.1f}")


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"jax {jax.__version__}, torch {torch.__version__}, load {os.getloadavg()}")
    table = Table("task", "ms", "to the step alone", "first call s")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, 14, 14, 16)).astype(np.float32)
    y = rng.integers(0, 10, BATCH)
    plain = Linens()
    params = plain.init(KEY, x[:1])["params"]

    def nll(params, batch):
        return -jnp.mean(plain.apply({"params": params}, batch[0]).log_prob(batch[1]))

    first, step = seconds(alone(nll, params, (x, y), optax.adam(1e-3)), 20)
    table.add_row("Linens: the step alone", f"{1e3 * step:.2f}", "1.00", f"{first:.1f}")
    for model in (Ours(), plain):
        net_rows(model, table, args, step)
    for count in (1, args.members):
        _, eager = seconds(torch_steps(x, y, count), 20)
        name = f"torch eager: a step of {count} in a loop"
        table.add_row(name, f"{1e3 * eager / count:.2f}", f"{eager / count / step:.2f}", "")
    images = {"x": (rng.uniform(size=(5 * 2 * BATCH, 28, 28, 1)) < 0.2).astype(np.float32)}
    model = vae.ConvVAE()
    params = model.init(KEY, images["x"][:1], jnp.zeros((1, 20)))["params"]
    run = fit(vae.negative_elbo(model), params, images, optax.adam(1e-3))
    first, median = seconds(run, args.repeats)
    table.add_row("ConvVAE: a step in fit", f"{1e3 * median / 5:.1f}", "", f"{first:.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
