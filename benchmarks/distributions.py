"""Throughput of log_prob, of draws and of their gradients, side by side with the peers.

1e6 numbers a call in float32, one thread each, one process: torch.distributions (eager and through
torch.compile), NumPyro and TFP on JAX. CPU time, so that a busy machine slows nobody; all take
turns, and the median of the turns counts. Gradients are towards parameters and values; towards the
parameters alone where values are counts. Ratios are the best peer's time over ours: above 1 we are
faster.

    python benchmarks/distributions.py
    python benchmarks/distributions.py --only Gamma Beta --size 100000 --compile-budget 0
"""

import argparse
import importlib
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

if hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import jaxprob.distributions as jd  # noqa: E402

torch.set_num_threads(1)
CLASSES = 10  # entries of an event; families over vectors get size / 10 events
OPERATIONS = ("log_prob", "log_prob gradient", "sample", "sample gradient")
PEERS = ("torch", "torch.compile", "numpyro", "tfp")

# family -> (names of its parameters in our order, how they and the values are drawn, other names)
REAL, POSITIVE, COUNT = "real", "positive", "count"
DISCRETE = (COUNT, "binary", "class")
FAMILIES: dict[str, dict[str, Any]] = {
    "Normal": {"parameters": {"loc": REAL, "scale": POSITIVE}},
    "Laplace": {"parameters": {"loc": REAL, "scale": POSITIVE}},
    "Cauchy": {"parameters": {"loc": REAL, "scale": POSITIVE}},
    "Logistic": {"parameters": {"loc": REAL, "scale": POSITIVE}, "without": ("torch",)},
    "Gumbel": {"parameters": {"loc": REAL, "scale": POSITIVE}},
    "StudentT": {"parameters": {"df": "shape", "loc": REAL, "scale": POSITIVE}},
    "LogNormal": {"parameters": {"loc": REAL, "scale": POSITIVE}, "value": POSITIVE},
    "Exponential": {"parameters": {"rate": POSITIVE}, "value": POSITIVE},
    "HalfNormal": {"parameters": {"scale": POSITIVE}, "value": POSITIVE},
    "Weibull": {"parameters": {"scale": POSITIVE, "concentration": "shape"}, "value": POSITIVE},
    "Gamma": {"parameters": {"concentration": "shape", "rate": POSITIVE}, "value": POSITIVE},
    "InverseGamma": {"parameters": {"concentration": "shape", "rate": POSITIVE}, "value": POSITIVE},
    "Beta": {
        "parameters": {"concentration1": "shape", "concentration0": "shape"},
        "value": "unit",
    },
    "Uniform": {"parameters": {"low": "negative", "high": POSITIVE}, "value": "small"},
    "VonMises": {"parameters": {"loc": REAL, "concentration": "shape"}},
    "Poisson": {"parameters": {"rate": "shape"}, "value": COUNT},
    "Geometric": {"parameters": {"logits": REAL}, "value": COUNT},
    "Binomial": {"parameters": {"total_count": "trials", "logits": REAL}, "value": COUNT},
    "NegativeBinomial": {"parameters": {"total_count": "shape", "logits": REAL}, "value": COUNT},
    "Bernoulli": {"parameters": {"logits": REAL}, "value": "binary"},
    "Categorical": {"parameters": {"logits": "vector"}, "value": "class"},
    "Dirichlet": {"parameters": {"concentration": "positive vector"}, "value": "simplex"},
    "MultivariateNormal": {
        "parameters": {"loc": "vector", "scale_tril": "tril"},
        "value": "vector",
    },
}
NUMPYRO = {"Bernoulli": "BernoulliLogits", "Categorical": "CategoricalLogits",
           "Binomial": "BinomialLogits", "Geometric": "GeometricLogits",
           "NegativeBinomial": "NegativeBinomialLogits"}  # fmt: skip
TFP = {
    "MultivariateNormal": "MultivariateNormalTriL",
    # TFP's rate of an inverse gamma is called scale
    ("InverseGamma", "rate"): "scale",
}


def arrays(kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws typical parameters or values of one kind."""
    rows = size // CLASSES
    drawn = {
        REAL: lambda: rng.normal(size=size),
        POSITIVE: lambda: rng.uniform(0.3, 3.0, size),
        "negative": lambda: -rng.uniform(0.5, 3.0, size),
        "small": lambda: rng.uniform(-0.4, 0.2, size),
        "shape": lambda: rng.uniform(0.5, 20.0, size),
        "unit": lambda: rng.uniform(0.02, 0.98, size),
        COUNT: lambda: rng.integers(0, 12, size),
        "trials": lambda: rng.integers(12, 40, size),
        "binary": lambda: rng.integers(0, 2, size),
        "class": lambda: rng.integers(0, CLASSES, rows),
        "vector": lambda: rng.normal(size=(rows, CLASSES)),
        "positive vector": lambda: rng.uniform(0.5, 5.0, (rows, CLASSES)),
        "simplex": lambda: rng.dirichlet(np.ones(CLASSES), rows),
        "tril": lambda: (
            np.tril(0.2 * rng.normal(size=(rows, CLASSES, CLASSES)), -1) + np.eye(CLASSES)
        ),
    }[kind]()
    return drawn if kind == "class" else drawn.astype(np.float32)


def build_jax(package: Any, family: str) -> Callable | None:
    """Returns parameters -> distribution of a JAX package, or None where it has no such family."""
    if package is jd:
        return getattr(jd, family)
    is_tfp = "tensorflow" in package.__name__
    cls = getattr(package, (TFP if is_tfp else NUMPYRO).get(family, family), None)
    if cls is None:
        return None

    def build(**parameters):
        if is_tfp:
            parameters = {TFP.get((family, n), n): v for n, v in parameters.items()}
            parameters = {"force_probs_to_zero_outside_support": False} | parameters if (
                family == "Poisson"
            ) else parameters  # fmt: skip
        return cls(**parameters)

    return build


def jax_operations(
    build: Callable, parameters: dict, value, counts: bool, is_ours: bool
) -> dict[str, Callable]:
    """The four operations, jitted. Densities of counts have slopes towards the parameters alone."""
    floats = {n: v for n, v in parameters.items() if n != "total_count"}
    fixed = {n: v for n, v in parameters.items() if n == "total_count"}
    key = jax.random.key(0)

    def log_prob(p, x):
        return build(**fixed, **p).log_prob(x)

    def draw(p, key):
        d = build(**fixed, **p)
        return (
            d.sample(key) if not is_ours and "numpyro" in type(d).__module__ else d.sample(seed=key)
        )

    log_prob_fn, draw_fn = jax.jit(log_prob), jax.jit(draw)
    by = 0 if counts else (0, 1)
    log_prob_grad = jax.jit(jax.grad(lambda p, x: log_prob(p, x).sum(), argnums=by))
    draw_grad = jax.jit(jax.grad(lambda p, key: draw(p, key).sum()))
    return {
        "log_prob": lambda: jax.block_until_ready(log_prob_fn(floats, value)),
        "log_prob gradient": lambda: jax.block_until_ready(log_prob_grad(floats, value)),
        "sample": lambda: jax.block_until_ready(draw_fn(floats, key)),
        "sample gradient": lambda: jax.block_until_ready(draw_grad(floats, key)),
    }


def torch_operations(
    cls: type, parameters: dict, value, counts: bool, wrap: Callable
) -> dict[str, Callable]:
    """The four operations in PyTorch; `wrap` is torch.compile or nothing."""
    given = {n: torch.from_numpy(np.array(v)) for n, v in parameters.items()}
    leaves = {n: v.clone().requires_grad_(n != "total_count") for n, v in given.items()}
    x = torch.from_numpy(np.array(value))
    x_leaf = x if counts else x.clone().requires_grad_()
    needing = [v for v in (*leaves.values(), x_leaf) if v.requires_grad]

    def log_prob(p, x):
        return cls(**p, validate_args=False).log_prob(x)

    def draw(p):
        d = cls(**p, validate_args=False)
        return d.rsample() if d.has_rsample else d.sample()

    log_prob, draw = wrap(log_prob), wrap(draw)

    def plain(function, *inputs):
        with torch.no_grad():
            return function(*inputs)

    def gradient(function, leaves_of, *inputs):
        return torch.autograd.grad(function(*inputs).sum(), leaves_of, allow_unused=True)

    parameters_only = [v for v in leaves.values() if v.requires_grad]
    return {
        "log_prob": lambda: plain(log_prob, given, x),
        "log_prob gradient": lambda: gradient(log_prob, needing, leaves, x_leaf),
        "sample": lambda: plain(draw, given),
        "sample gradient": lambda: gradient(draw, parameters_only, leaves),
    }


def peers() -> dict[str, Any]:
    """The packages that are installed; says which are not."""
    found = {}
    for name, path in (("numpyro", "numpyro.distributions"),
                       ("tfp", "tensorflow_probability.substrates.jax.distributions")):  # fmt: skip
        try:
            found[name] = importlib.import_module(path)
        except ImportError as error:
            print(f"skipped {name}: {error}")
    return found


def first_call(run: Callable) -> float | None:
    """Seconds of the first call, compilation included; None where it fails."""
    start = time.perf_counter()
    try:
        run()
    except Exception as error:  # a peer's failure is a finding, not ours to raise
        print(f"    fails: {type(error).__name__}: {str(error).splitlines()[0][:90]}")
        return None
    return time.perf_counter() - start


def turns(runs: dict[str, Callable], seconds: float) -> dict[str, float]:
    """Median CPU milliseconds of each, taking turns for about `seconds` in all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(of) for name, of in times.items()}


def main() -> None:
    """Runs the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each line of the table")
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--operations", nargs="*", default=list(OPERATIONS))
    parser.add_argument(
        "--compile-budget", type=float, default=120.0, help="seconds for torch.compile in all"
    )
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    packages, budget = peers(), args.compile_budget
    table = Table("family", "operation", "ours ms", *PEERS, "ratio", "our compile s")
    ratios: dict[str, list[float]] = {operation: [] for operation in OPERATIONS}
    lowest: list[tuple[float, str]] = []
    for family in args.only:
        row = FAMILIES[family]
        rng = np.random.default_rng(0)
        parameters = {n: arrays(k, args.size, rng) for n, k in row["parameters"].items()}
        value = arrays(row.get("value", REAL), args.size, rng)
        counts = row.get("value") in DISCRETE
        ours = jax_operations(build_jax(jd, family), parameters, value, counts, True)
        sides = {}
        for name, package in packages.items():
            build = build_jax(package, family)
            if build is not None:
                sides[name] = jax_operations(build, parameters, value, counts, False)
        if "torch" not in row.get("without", ()):
            cls = getattr(torch.distributions, family)
            torch._dynamo.reset()  # after 8 families it would give up and run eagerly
            sides["torch"] = torch_operations(cls, parameters, value, counts, lambda f: f)
            sides["torch.compile"] = torch_operations(cls, parameters, value, counts, torch.compile)
        pathwise = getattr(getattr(jd, family), "reparameterized", False)
        for operation in args.operations:
            if operation == "sample gradient" and pathwise is not True:
                continue
            compiled = first_call(ours[operation])
            runs = {"ours": ours[operation]}
            for name, operations in sides.items():
                if name == "torch.compile":
                    if budget <= 0 or operation.startswith("sample"):
                        continue
                spent = first_call(operations[operation])
                if name == "torch.compile":
                    budget -= spent or 0.0
                    if budget <= 0:
                        print("torch.compile: the budget is used up, the rest goes without it")
                if spent is not None:
                    runs[name] = operations[operation]
            times = turns(runs, args.seconds)
            best = min((t for n, t in times.items() if n != "ours"), default=math.nan)
            ratio = best / times["ours"]
            ratios[operation].append(ratio)
            lowest.append((ratio, f"{family} {operation}"))
            shown = [f"{times[n]:.1f}" if n in times else "-" for n in PEERS]
            table.add_row(
                family, operation, f"{times['ours']:.1f}", *shown, f"{ratio:.2f}", f"{compiled:.1f}"
            )
            print(f"{family} {operation}: {ratio:.2f}", flush=True)
    console = Console(width=110)
    console.print(table)
    for operation, of in ratios.items():
        if of:
            console.print(f"{operation}: geometric mean {statistics.geometric_mean(of):.2f}")
    every = [r for of in ratios.values() for r in of if math.isfinite(r)]
    console.print(f"all: geometric mean {statistics.geometric_mean(every):.2f} over {len(every)}")
    below = ", ".join(f"{name} {ratio:.2f}" for ratio, name in sorted(lowest) if ratio < 0.7)
    console.print(f"below 0.7: {below or 'none'}")


if __name__ == "__main__":
    main()
