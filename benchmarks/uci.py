"""UCI regression with uncertainty: test log-likelihood and RMSE on the splits of the literature.

Protocol: the 90/10 splits that come with the data (20; protein 5), inputs and targets standardised
by the training part, one hidden layer of 50 ReLU units (protein 100), scores on the original
scale. Hyper-parameters (the settings of each method) are chosen inside each training split by the
log-likelihood of a fifth of its rows, then the chosen setting is trained on all of them; no test
row is looked at before the table. All splits of a data set, and the members of an ensemble, train
as one vmapped program.

    python benchmarks/uci.py --data DIR                   # all sets, all methods
    python benchmarks/uci.py --data DIR --sets yacht --methods "deep ensemble"
"""

import argparse
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import uci_methods as methods
from rich.console import Console
from rich.table import Table
from uci_methods import Method

from jaxprob import metrics, training

STEPS = 6000  # of the longer settings
SETS = ("boston", "energy", "wine", "yacht", "protein")

# Negative log-likelihood in nats: Lakshminarayanan et al. (2017), table 1; rerun of MC dropout with
# its published hyper-parameters, and tuned inside each split (Gal's repository, readme of 2018).
PUBLISHED = {
    "boston": (2.41, 2.40, 2.40),
    "energy": (1.38, 1.72, 1.21),
    "wine": (0.94, 0.92, 0.93),
    "yacht": (1.18, 1.38, 1.25),
    "protein": (2.83, 2.87, 2.87),
}


class Task(NamedTuple):
    """A data set in its J splits, standardised by the training rows of each.

    Attributes:
      x: Inputs `[J, N, Q]`.
      y: Targets `[J, N, 1]`.
      scale: Standard deviation of the training targets `[J]`, in their own units.
      train: Rows of the training part `[J, N_train]`.
      test: Rows of the test part `[J, N_test]`.
    """

    x: jax.Array
    y: jax.Array
    scale: np.ndarray
    train: np.ndarray
    test: np.ndarray


def load(folder: pathlib.Path, name: str, splits: int | None) -> Task:
    """Reads one set."""
    data = np.load(folder / "uci_regression" / f"{name}.npz")
    train, test = data["train_idx"][:splits], data["test_idx"][:splits]
    x, y = data["x"].astype(np.float64), data["y"].astype(np.float64).reshape(-1, 1)
    xs, ys, scale = [], [], []
    for rows in train:
        spread = x[rows].std(0)
        xs.append((x - x[rows].mean(0)) / np.where(spread == 0, 1.0, spread))
        ys.append((y - y[rows].mean(0)) / y[rows].std(0))
        scale.append(y[rows].std())
    as_floats = [jnp.asarray(np.stack(values), jnp.float32) for values in (xs, ys)]
    return Task(*as_floats, np.array(scale), train, test)


def fit_all_splits(task: Task, method: Method, rows: np.ndarray, key: jax.Array) -> Any:
    """Trains every member of every split at once; returns what is trained, `[J, members, ...]`.

    The rows of a split travel with its members, so all share one set of indices as their data.
    """
    splits, num_rows = rows.shape
    keys = jax.random.split(key, splits * method.members)
    owner = jnp.repeat(jnp.arange(splits), method.members)
    own = {"split": owner, "rows": jnp.asarray(rows)[owner]}
    members = {"params": jax.vmap(method.init)(keys), "collections": own}
    inner = method.loss(num_rows)

    def loss_fn(params, batch, key):
        split = params["collections"]["split"]
        chosen = params["collections"]["rows"][batch["row"]]
        batch = {"x": task.x[split, chosen], "y": task.y[split, chosen]}
        return inner(params["params"], batch, key)

    fitted = training.fit_ensemble(
        loss_fn,
        members,
        {"row": np.arange(num_rows)},
        optimizer=method.optimizer(num_rows),
        epochs=method.epochs,
        batch_size=method.batch_size,
        key=jax.random.fold_in(key, 1),
        progress=False,
    )
    grouped = (splits, method.members)
    return jax.tree.map(lambda w: w.reshape(grouped + w.shape[1:]), fitted.params["params"])


def score(
    task: Task, method: Method, trained: Any, train_rows: np.ndarray, rows: np.ndarray, key
) -> np.ndarray:
    """Returns log-likelihood and RMSE of each split on some of its rows, `[J, 2]`."""
    scores = []
    for split, chosen in enumerate(rows):
        members = jax.tree.map(lambda leaf, split=split: leaf[split], trained)
        data = {"x": task.x[split, train_rows[split]], "y": task.y[split, train_rows[split]]}
        x, y = task.x[split, chosen], task.y[split, chosen]
        predictive = method.predictive(members, jax.random.fold_in(key, split), data, x)
        # a density changes with the unit of y
        nll = float(metrics.nll(predictive, y)) + np.log(task.scale[split])
        error = np.asarray(predictive.mean() - y) * task.scale[split]
        scores.append((-nll, np.sqrt(np.mean(error**2))))
    return np.array(scores)


def compare(task: Task, family: list[Method], seed: int, console: Console) -> dict[str, Any]:
    """Chooses a setting for each split inside its training rows, and tests it."""
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(rows) for rows in task.train])
    cut = shuffled.shape[1] // 5
    validation, inner = shuffled[:, :cut], shuffled[:, cut:]
    key = jax.random.key(seed)
    inside, outside = [], []
    for method in family:
        start = time.perf_counter()
        trained = fit_all_splits(task, method, inner, key)
        inside.append(score(task, method, trained, inner, validation, key)[:, 0])
        trained = fit_all_splits(task, method, task.train, key)
        outside.append(score(task, method, trained, task.train, task.test, key))
        console.print(
            f"  {method.family}, {method.setting}: validation {inside[-1].mean():.3f}, "
            f"{time.perf_counter() - start:.0f} s"
        )
    best = np.argmax(np.stack(inside), axis=0)  # [J]
    tested = np.stack(outside)[best, np.arange(len(best))]  # [J, 2]
    error = tested.std(0, ddof=1) / np.sqrt(len(tested))
    return {
        "method": family[0].family,
        "log_likelihood": float(tested[:, 0].mean()),
        "standard_error": float(error[0]),
        "rmse": float(tested[:, 1].mean()),
        "rmse_error": float(error[1]),
        "chosen": np.bincount(best, minlength=len(family)).tolist(),
        "settings": [method.setting for method in family],
        "per_split": tested[:, 0].tolist(),
    }


def families(name: str, inputs: int, num_rows: int) -> dict[str, list[Method]]:
    """The settings of each method from which the validation rows choose."""
    large = name == "protein"
    units, batch, short = (100, 256, 20) if large else (50, 32, 40)
    long = max(short, STEPS * batch // num_rows)
    common = (inputs, units)
    return {
        "deep ensemble": [
            methods.deep_ensemble(*common, short, batch, 1.0),
            methods.deep_ensemble(*common, long, batch, 1.0),
            methods.deep_ensemble(*common, long, batch, 0.5),
            methods.deep_ensemble(*common, long, batch, 0.5, 0.01),
            methods.deep_ensemble(*common, long, batch, 0.5, homoscedastic=True),
        ],
        "Student's t": [  # deep ensembles whose noise has heavy tails
            methods.deep_ensemble(*common, epochs, batch, 0.5, 0.01, heavy_tailed=True)
            for epochs in (short, (short + long) // 3, long)
        ],
        "MC dropout": [
            methods.mc_dropout(*common, long, batch, rate, 1.0) for rate in (0.005, 0.02, 0.05)
        ],
        "mean field": [
            methods.variational(*common, long, batch, "diagonal", homoscedastic)
            for homoscedastic in (False, True)
        ],
        "Laplace": [
            methods.laplace(*common, epochs, batch, 1.0, False) for epochs in (short, long)
        ],
        "layer": [  # full batches where there is room, and a larger step
            methods.variational(*common, 800 * 512 // max(num_rows, 512), 512, "layer", False, 3e-2)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--methods", nargs="+", default=None)
    parser.add_argument("--splits", type=int, default=None, help="only the first splits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, default=None, help="append results here")
    args = parser.parse_args()
    console = Console(width=100)
    for name in args.sets:
        task = load(args.data, name, args.splits)
        ensembles, dropout, tuned = PUBLISHED[name]
        table = Table(
            "method",
            "log-likelihood",
            "RMSE",
            "settings chosen",
            title=f"{name}, {len(task.test)} splits; published: deep ensembles {-ensembles}, "
            f"MC dropout {-dropout} (tuned {-tuned})",
        )
        for family, settings in families(name, task.x.shape[-1], task.train.shape[1]).items():
            if args.methods is not None and family not in args.methods:
                continue
            result = compare(task, settings, args.seed, console) | {"set": name}
            table.add_row(
                result["method"],
                f"{result['log_likelihood']:.3f} +- {result['standard_error']:.3f}",
                f"{result['rmse']:.3f} +- {result['rmse_error']:.3f}",
                ", ".join(map(str, result["chosen"])),
            )
            if args.json is not None:
                with args.json.open("a") as file:
                    file.write(json.dumps(result) + "\n")
        console.print(table)


if __name__ == "__main__":
    main()
