"""Does a classifier know what it does not know? Digits in, letters and damaged digits out.

One network is trained on scikit-learn's 8 x 8 digits in three ways: alone, as an ensemble, and with
Monte Carlo dropout. Then each meets digits that are rotated or noisy, and letters, of which it has
seen none. What tells them apart is not how sure one network is, but whether the draws agree: the
mutual information between label and weights (epistemic), beside the entropy (all of the doubt).

    python examples/uncertainty_on_digits.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from jaxprob import bayes, datasets, heads, metrics, optim, training
from jaxprob.objectives import GaussianPrior

MEMBERS, DRAWS = 10, 50


class Net(nn.Module):
    """Two hidden layers with dropout; a rate of 0 has none."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x):
        h = x.reshape(x.shape[0], -1)
        for _ in range(2):
            h = nn.relu(nn.Dense(100)(h))
            h = nn.Dropout(self.rate, deterministic=True)(h)
        return heads.CategoricalHead(10)(h)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000, help="optimisation steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/uncertainty_on_digits.png", help="where to draw")
    return parser.parse_args()


def train_all(train: dict, steps: int, key: jax.Array) -> dict:
    """Returns name -> (model, draws)."""
    fit_key, init_key, draw_key = jax.random.split(key, 3)
    options = {
        "optimizer": optim.adam(optim.schedules.cosine_annealing_lr(3e-3, steps)),
        "steps": steps,
        "batch_size": 64,
        "key": fit_key,
    }
    num_data, prior, example = len(train["x"]), GaussianPrior(1.0), train["x"][:1]
    ensemble = bayes.DeepEnsemble(Net(), example, MEMBERS)
    loss_fn = ensemble.loss(prior=prior, num_data=num_data)
    members = training.fit_ensemble(loss_fn, ensemble.init(init_key), train, **options).params
    dropout = bayes.MCDropout(Net(0.3), example)
    loss_fn = dropout.loss(prior, num_data)
    params = training.fit(loss_fn, dropout.init(init_key), train, **options).params
    return {
        "one network": (Net(), jax.tree.map(lambda leaf: leaf[:1], members)),
        "ensemble": (Net(), members),
        "MC dropout": (dropout.model, dropout.sample(params, draw_key, DRAWS)),
    }


def separation(inside: np.ndarray, outside: np.ndarray) -> float:
    """Probability that something strange is doubted more than a digit (AUROC)."""
    strange = np.repeat([0, 1], [len(inside), len(outside)])
    return float(roc_auc_score(strange, np.r_[inside, outside]))


def draw(sets: dict, predictive: dict, found: dict, path: pathlib.Path) -> pathlib.Path:
    """Above, images with the ensemble's answer; below, how far each posterior's doubt separates."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.7, 1.0))
    for row, (kind, images) in zip(above.subplots(len(sets), 8), sets.items(), strict=True):
        probs = np.asarray(predictive[kind].probs)
        for ax, image, p in zip(row, images, probs, strict=False):
            ax.imshow(image[..., 0], cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set_title(f"{p.argmax()}: {100 * p.max():.0f} %", fontsize=8)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(kind)
    for ax, (name, doubt) in zip(below.subplots(1, len(found)), found.items(), strict=True):
        for kind, values in doubt.items():
            ax.plot(np.sort(values), np.linspace(1.0, 0.0, len(values)), label=kind)
        ax.set_title(name, fontsize=9)
        what = "entropy" if name == "one network" else "mutual information"
        ax.set(xlabel=f"{what} (nats)", xlim=(0.0, None), ylim=(0.0, 1.0))
    below.axes[0].set_ylabel("share above")
    below.axes[-1].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def main() -> None:
    args = parse_arguments()
    split_key, noise_key, key = jax.random.split(jax.random.key(args.seed), 3)
    digits = load_digits()
    images, labels = (digits.images / 16.0).astype(np.float32)[..., None], digits.target
    order = np.asarray(jax.random.permutation(split_key, len(labels)))
    test, train = order[:500], order[500:]
    posteriors = train_all({"x": images[train], "y": labels[train]}, args.steps, key)

    clean = images[test]
    noise = 0.5 * np.asarray(jax.random.normal(noise_key, clean.shape))
    sets = {
        "digits": clean,
        "noisy": np.clip(clean + noise, 0.0, 1.0).astype(np.float32),
        "rotated": np.rot90(clean, axes=(1, 2)).copy(),
        "letters": datasets.letters()[..., None],
    }
    strange = [kind for kind in sets if kind != "digits"]
    table = Table("", "error", "NLL", "ECE", *(f"AUROC {kind}" for kind in strange))
    found = {}
    for name, (model, draws) in posteriors.items():
        predictive = {kind: bayes.predict(model, draws, jnp.asarray(x)) for kind, x in sets.items()}
        # one network has nothing to disagree with: all of its doubt is the entropy
        of = "entropy" if name == "one network" else "mutual_information"
        doubts = {kind: getattr(p, of) for kind, p in predictive.items()}
        doubt = {kind: np.asarray(d() if callable(d) else d) for kind, d in doubts.items()}
        found[name] = doubt
        p, truth = predictive["digits"], jnp.asarray(labels[test])
        table.add_row(
            name,
            f"{100 * float(jnp.mean(p.mode() != truth)):.1f} %",
            f"{float(metrics.nll(p, truth)):.3f}",
            f"{float(metrics.expected_calibration_error(p, truth)):.3f}",
            *(f"{separation(doubt['digits'], doubt[kind]):.3f}" for kind in strange),
        )
    Console(width=100).print(table)
    model, draws = posteriors["ensemble"]
    shown = {kind: bayes.predict(model, draws, jnp.asarray(x[:8])) for kind, x in sets.items()}
    print(f"picture: {draw(sets, shown, found, pathlib.Path(args.out))}")


if __name__ == "__main__":
    main()
