"""The right likelihood for each kind of target, on real data: held-out NLL against the usual one.

Both columns are densities of the same target (or both probabilities), so the difference counts.
"Positive" alone decides nothing: proline is nearly normal given the rest, so the gamma loses.

    python examples/choose_a_distribution.py
"""

import argparse
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.table import Table
from sklearn import datasets as bundled

from jaxprob import datasets, heads, objectives, optim, plot
from jaxprob.nn import MLP, Standardize

FOLDS = 5


def tasks() -> dict[str, tuple[np.ndarray, np.ndarray, nn.Module, nn.Module, str]]:
    """Name -> inputs, targets, usual head, better head, in words."""
    cancer, wine, iris = bundled.load_breast_cancer(), bundled.load_wine(), bundled.load_iris()
    column = list(cancer.feature_names).index("area error")
    rest = np.delete(cancer.data, column, 1)[:, :9]
    area = cancer.data[:, column : column + 1]
    proline, others = wine.data[:, -1:], wine.data[:, :-1]
    shake = datasets.earthquakes()
    crash = datasets.motorcycle()
    form = cancer.data[:, 5:6]
    rows = np.eye(3)[iris.target]
    unit = {"target_mean": float(area.mean()), "target_std": float(area.std())}
    log_unit = {"target_mean": float(np.log(area).mean()), "target_std": float(np.log(area).std())}
    usual = {"target_mean": float(proline.mean()), "target_std": float(proline.std())}
    g = {"target_mean": float(crash.y.mean()), "target_std": float(crash.y.std())}
    share = {"target_mean": float(form.mean()), "target_std": float(form.std())}
    count = {"target_mean": float(shake.y.mean())}
    return {
        "noise that changes (crash)": (
            crash.x, crash.y, heads.NormalHead(homoscedastic=True, **g), heads.NormalHead(**g),
            "Normal, one scale -> scale by input",
        ),
        "positive, skewed (area error)": (
            rest, area, heads.NormalHead(homoscedastic=True, **unit),
            heads.LogNormalHead(**log_unit), "Normal -> LogNormal",
        ),
        "positive (proline)": (
            others, proline, heads.NormalHead(homoscedastic=True, **usual),
            heads.GammaHead(target_mean=usual["target_mean"]), "Normal -> Gamma",
        ),
        "count (earthquakes a year)": (
            shake.x, shake.y, heads.PoissonHead(**count), heads.NegativeBinomialHead(**count),
            "Poisson -> NegativeBinomial",
        ),
        "share (compactness)": (
            cancer.data[:, [0, 1, 4]], form, heads.NormalHead(homoscedastic=True, **share),
            heads.BetaHead(), "Normal -> Beta",
        ),
        "class (iris)": (
            iris.data, rows, heads.BernoulliHead(3), heads.CategoricalHead(3),
            "3 Bernoullis -> Categorical",
        ),
    }  # fmt: skip


def held_out(head: nn.Module, x: Any, y: Any, steps: int, seed: int) -> float:
    """Mean NLL over the folds of cross-validation, in nats a row; one program fits all folds."""
    if isinstance(head, heads.CategoricalHead):
        y = np.argmax(y, -1)
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    trains = fold != np.arange(FOLDS)[:, None]  # [FOLDS, rows]
    # Units, of inputs and targets, are those of all rows: they tell nothing of a single target.
    # a curve for one input, a plane for several: these sets are small
    hidden = (16,) if x.shape[1] == 1 else ()
    model = nn.Sequential([Standardize.of(x), MLP(hidden, nn.tanh), head])
    prior = objectives.GaussianPrior(1.0)
    loss = objectives.map_loss(model, prior, int(trains[0].sum()))
    optimizer = optim.adam(optim.schedules.cosine_annealing_lr(0.02, steps))
    start = model.init(jax.random.key(seed), x[:1])["params"]

    @jax.jit
    @jax.vmap
    def log_prob_after_training(weight):
        batch = {"x": x, "y": y, "weight": weight}

        def step(carry, key):
            params, state = carry
            slope, _ = jax.grad(loss, has_aux=True)(params, batch, key)
            updates, state = optimizer.update(slope, state, params)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(seed), steps)
        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), keys)
        log_prob = model.apply({"params": params}, x).log_prob(y)
        return log_prob.reshape(len(x), -1).sum(-1)

    log_prob = log_prob_after_training(jnp.asarray(trains, x.dtype))
    return -float(log_prob[~trains].mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/choose_a_distribution.png", help="where to draw")
    args = parser.parse_args()
    table = Table("target", "usual -> better likelihood", "usual NLL", "better NLL", "gain (nats)")
    gains = {}
    for name, (x, y, usual, better, words) in tasks().items():
        x, y = x.astype(np.float32), y.astype(np.float32)
        scores = [held_out(head, x, y, args.steps, args.seed) for head in (usual, better)]
        gains[name] = scores[0] - scores[1]
        table.add_row(name, words, *(f"{s:.3f}" for s in scores), f"{gains[name]:+.3f}")
    Console(width=110).print(table)

    (ax,) = plot.new_row(1)
    ax.barh(list(gains), list(gains.values()), color="tab:blue")
    ax.axvline(0.0, color="black", lw=0.8)
    ax.invert_yaxis()
    ax.set(xlabel="gain in held-out log-likelihood (nats a row)", title="the right likelihood")
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(path, dpi=150)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
