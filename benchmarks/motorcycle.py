"""Cross-validation on the motorcycle impact data: does modelling the noise pay?

Ten folds; a Bayesian network of ten tanh units whose scale depends on the input against the same
network with one scale for all inputs. Everything is standardised by the training part of each fold;
scores are on the original scale.

    python benchmarks/motorcycle.py            # folds of seed 1
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import bayes, datasets, heads, metrics, optim, training
from jaxprob.nn import MLP
from jaxprob.objectives import GaussianPrior

FOLDS, STEPS, DRAWS = 10, 8000, 200


def cross_validate(homoscedastic: bool, seed: int) -> dict[str, np.ndarray]:
    """Returns NLL and coverage of every row, predicted from the folds that it is not in."""
    data = datasets.motorcycle()
    rows = len(data.x)
    folds = np.array_split(np.random.default_rng(seed).permutation(rows), FOLDS)
    model = nn.Sequential([MLP((10,), nn.tanh), heads.NormalHead(homoscedastic=homoscedastic)])
    q = bayes.GaussianPosterior(
        model, jnp.zeros((1, 1)), covariance="layer", prior=GaussianPrior(scale=2.0)
    )
    sizes = {rows - len(fold) for fold in folds}
    losses = {n: bayes.negative_elbo(q, num_data=n, num_samples=8) for n in sizes}
    # without the decay the noise of the last steps widens the posterior, and the intervals with it
    optimizer = optim.adam(optim.schedules.cosine_annealing_lr(0.02, STEPS))
    scores = {name: np.zeros(rows) for name in ("nll", "covered 50", "covered 90", "covered 95")}
    for number, test in enumerate(folds):
        train = np.setdiff1d(np.arange(rows), test)
        centre = [a[train].mean() for a in (data.x, data.y)]
        spread = [a[train].std() for a in (data.x, data.y)]
        x, y = ((a - m) / s for a, m, s in zip((data.x, data.y), centre, spread, strict=True))
        fit_key, init_key, draw_key = jax.random.split(jax.random.key(number), 3)
        fitted = training.fit(
            losses[len(train)],
            q.init(init_key),
            {"x": x[train], "y": y[train]},
            optimizer=optimizer,
            steps=STEPS,
            batch_size=len(train),
            key=fit_key,
            progress=False,
        )
        predictive = bayes.predict(model, q.sample(fitted.params, draw_key, DRAWS), x[test])
        # a density changes with the unit of y: back to g from units of its standard deviation
        scores["nll"][test] = metrics.nll(predictive, y[test], per_row=True) + np.log(spread[1])
        for level in (50, 90, 95):
            inside = metrics.coverage(predictive, y[test], level / 100, per_row=True)
            scores[f"covered {level}"][test] = np.asarray(inside)[:, 0]
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of the folds")
    args = parser.parse_args()
    ours = cross_validate(homoscedastic=False, seed=args.seed)
    flat = cross_validate(homoscedastic=True, seed=args.seed)
    table = Table("noise", "NLL (nats a row)", "50 % covers", "90 % covers", "95 % covers")
    for name, scores in (("depends on time", ours), ("one scale", flat)):
        error = scores["nll"].std(ddof=1) / np.sqrt(len(scores["nll"]))
        covers = (f"{100 * scores[f'covered {level}'].mean():.1f} %" for level in (50, 90, 95))
        table.add_row(name, f"{scores['nll'].mean():.3f} +- {error:.3f}", *covers)
    gain = flat["nll"] - ours["nll"]
    Console().print(table)
    print(f"gain, row by row: {gain.mean():.3f} +- {gain.std(ddof=1) / np.sqrt(len(gain)):.3f}")


if __name__ == "__main__":
    main()
