"""Density estimation on binary data (DEBD): a mixture of products of Bernoullis, fitted by EM.

The number of classes is chosen on the validation set; the test set is looked at once, with it.

    python benchmarks/density.py nltcs --data DIR

DIR holds `debd/nltcs.npz`: `train`, `valid`, `test` with bits packed along the variables, and their
number `n_vars`. A Chow-Liu tree reaches -6.76 nats on nltcs and -16.5 on plants.
"""

import argparse
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import vae

BARS = {"nltcs": -6.76, "plants": -16.52}
"""Mean test log-likelihood of a Chow-Liu tree, nats a row."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", choices=sorted(BARS))
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the data sets")
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 5, 10, 20, 40, 80, 160])
    parser.add_argument("--steps", type=int, default=300, help="steps of EM")
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--pseudo-count", type=float, default=0.1, help="added to every cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, default=None, help="append results here")
    return parser.parse_args()


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
    z = np.load(path)
    bits = {split: np.unpackbits(z[split], axis=1) for split in ("train", "valid", "test")}
    return {split: rows[:, : int(z["n_vars"])].astype(np.int32) for split, rows in bits.items()}


def mean_log_prob(model: vae.LatentClassModel, params, x: np.ndarray) -> float:
    rows, counts = np.unique(x, axis=0, return_counts=True)
    log_p = jax.jit(lambda w, x: model.apply({"params": w}, x, method="log_prob"))(params, rows)
    return float(np.average(np.asarray(log_p, float), weights=counts))


def main() -> None:
    args = parse_arguments()
    data = load(args.data / "debd" / f"{args.dataset}.npz")
    # equal rows are one row that counts several times
    x, counts = np.unique(data["train"], axis=0, return_counts=True)
    print(
        f"{args.dataset}: {len(data['train'])} rows, {len(x)} of them different, {x.shape[1]} bits"
    )
    table = Table("classes", "train", "valid", "seconds")
    fits = {}
    for number in args.classes:
        model = vae.LatentClassModel(number, (2,) * x.shape[1])
        start = time.perf_counter()
        fitted = vae.fit_em(
            model,
            jnp.asarray(x),
            jax.random.fold_in(jax.random.key(args.seed), number),
            weight=jnp.asarray(counts, jnp.float32),
            pseudo_count=args.pseudo_count,
            num_steps=args.steps,
            num_restarts=args.restarts,
        )
        scores = {s: mean_log_prob(model, fitted.params, data[s]) for s in ("train", "valid")}
        seconds = time.perf_counter() - start
        fits[number] = (scores["valid"], model, fitted.params)
        table.add_row(
            str(number), f"{scores['train']:.4f}", f"{scores['valid']:.4f}", f"{seconds:.1f}"
        )
        print(f"{number} classes: valid {scores['valid']:.4f}", flush=True)
    Console(width=100).print(table)
    best = max(fits, key=lambda number: fits[number][0])
    valid, model, params = fits[best]
    test = mean_log_prob(model, params, data["test"])
    print(f"chosen on valid: {best} classes, valid {valid:.4f}, test {test:.4f} nats a row;")
    print(f"a Chow-Liu tree has {BARS[args.dataset]} on test: {test - BARS[args.dataset]:+.3f}")
    if args.json is not None:
        row = {"dataset": args.dataset, "classes": best, "valid": valid, "test": test}
        with args.json.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
