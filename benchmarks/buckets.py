"""Sequences of unlike length: a GRU trained on buckets, and on one array padded to the longest.

The lengths are like those of a treebank: 25 on average, the longest 240. Both train the
same steps of the same rows in one process, one thread; tokens are those within sequences.

    python benchmarks/buckets.py
    python benchmarks/buckets.py --rows 4000 --longest 250
"""

import argparse
import os
import time

if hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import flax.linen as linen  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from jaxprob import nn, training  # noqa: E402
from jaxprob.heads import NormalHead  # noqa: E402
from jaxprob.objectives import negative_log_likelihood  # noqa: E402

KEY = jax.random.key(0)


class Reader(linen.Module):
    """A GRU over the sequence; its last state gives the target."""

    takes = ("lengths",)

    @linen.compact
    def __call__(self, x, lengths):
        """Maps `[B, T, 16]`."""
        h, _ = nn.GRU(64)(x)
        last = jnp.take_along_axis(h, (lengths - 1)[:, None, None], axis=1)[:, 0]
        return NormalHead(1)(last)


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--longest", type=int, default=240)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    lengths = np.minimum(1 + rng.gamma(2.0, 12.0, args.rows).astype(int), args.longest)
    lengths[0] = args.longest
    rows = [rng.normal(size=(n, 16)).astype(np.float32) for n in lengths]
    y = np.stack([row.mean(keepdims=True)[0, :1] for row in rows])
    buckets = training.LengthBuckets({"x": rows, "y": y}, args.batch, KEY)
    x = np.zeros((args.rows, args.longest, 16), np.float32)
    for place, row in zip(x, rows, strict=True):
        place[: len(row)] = row
    whole = {"x": x, "y": y, "lengths": lengths.astype(np.int32)}
    model = Reader()
    params = jax.jit(model.init)(KEY, x[:1], lengths[:1])["params"]
    loss_fn, adam = negative_log_likelihood(model), optax.adam(1e-3)
    print(f"jax {jax.__version__}, load {os.getloadavg()}, widths {buckets.widths}")
    table = Table("data", "steps per step within", "first call s", "tokens a second", "ratio")
    speeds = []
    padding = args.rows * args.longest / lengths.sum()
    for name, data, steps in (
        ("padded to the longest", whole, padding),
        ("buckets", buckets, 1 + buckets.padding),
    ):

        def run(data=data):
            fitted = training.fit(
                loss_fn, params, data, optimizer=adam, epochs=1, batch_size=args.batch, key=KEY,
                progress=False,
            )  # fmt: skip
            jax.block_until_ready(fitted.params)

        seconds = []
        for _ in range(4):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
        speeds.append(lengths.sum() / sorted(seconds[1:])[1])
        table.add_row(
            name, f"{steps:.2f}", f"{seconds[0]:.1f}", f"{speeds[-1]:.0f}",
            f"{speeds[-1] / speeds[0]:.1f}",
        )  # fmt: skip
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
