"""Speed of the parity tools: `torch_ref.random` against torch's generator, and `check_parity`.

python benchmarks/parity.py random    # a million numbers of each kind
python benchmarks/parity.py check     # a pair of models with ten million parameters
"""

import argparse
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds

import torch_ref.random as torch_random
from jaxprob import interop, optim

NUMBERS = 1_000_000
WIDTH = 2230
"""Two square layers of this width have ten million parameters."""


def benchmark_random() -> None:
    torch.set_num_threads(1)
    key = torch_random.key(0)
    rows: dict[str, tuple[Callable, Callable]] = {
        "uniform": (
            lambda: torch_random.uniform(key, (NUMBERS,)),
            lambda: torch.rand(NUMBERS),
        ),
        "normal": (
            lambda: torch_random.normal(key, (NUMBERS,)),
            lambda: torch.randn(NUMBERS),
        ),
        "normal, float64": (
            lambda: torch_random.normal(key, (NUMBERS,), torch.float64),
            lambda: torch.randn(NUMBERS, dtype=torch.float64),
        ),
        "bernoulli": (
            lambda: torch_random.bernoulli(key, 0.3, (NUMBERS,)),
            lambda: torch.full((NUMBERS,), 0.3).bernoulli(),
        ),
        "permutation": (
            lambda: torch_random.permutation(key, NUMBERS),
            lambda: torch.randperm(NUMBERS),
        ),
    }
    table = Table("a million numbers", "torch_ref.random (ms)", "torch (ms)", "ratio")
    for name, (ours, native) in rows.items():
        ours(), native()  # warm up
        a, b = median_seconds(ours), median_seconds(native)
        table.add_row(name, f"{1e3 * a:.1f}", f"{1e3 * b:.1f}", f"{a / b:.1f}")
    Console().print(table)


def benchmark_check() -> None:
    model = nn.Sequential([nn.Dense(WIDTH), nn.tanh, nn.Dense(WIDTH), nn.tanh, nn.Dense(1)])
    module = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.Tanh(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.Tanh(),
        torch.nn.Linear(WIDTH, 1),
    )
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(32, WIDTH)), "y": rng.normal(size=(32, 1))}

    def loss(output, batch):
        return ((output - batch["y"]) ** 2).mean()

    size = sum(p.numel() for p in module.parameters())
    table = Table(f"{size / 1e6:.1f} million parameters", "seconds", "worst error")
    for name, options in {
        "values and gradients": {},
        "and 10 steps of Adam": {
            "optimizer": (optim.adam(1e-4), lambda p: torch.optim.Adam(p, 1e-4)),
            "steps": 10,
        },
    }.items():
        start = time.perf_counter()
        report = interop.check_parity(
            model, module, batch, jax_loss=loss, torch_loss=loss, **options
        )
        seconds = time.perf_counter() - start
        worst = max(c.error for c in report.comparisons)
        table.add_row(name, f"{seconds:.1f}", f"{worst:.1e}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=("random", "check", "all"), default="all")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, torch {torch.__version__}, {jax.default_backend()}")
    if options.what in ("random", "all"):
        benchmark_random()
    if options.what in ("check", "all"):
        benchmark_check()


if __name__ == "__main__":
    main()
