"""Train a Bayesian network on real data, read the report, look at the picture.

Default data: head acceleration after a motorcycle impact (133 rows), whose noise changes with time.

    python examples/bayesian_regression.py
    python examples/bayesian_regression.py --dataset quintic --posterior full
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob import bayes, datasets, heads, metrics, optim, plot, training
from jaxprob.nn import MLP, Standardize
from jaxprob.objectives import GaussianPrior, negative_log_likelihood

TEST_SHARE = 0.2
NUM_DRAWS = 200
MEMBERS = 20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", choices=("motorcycle", "quintic", "diabetes"), default="motorcycle"
    )
    parser.add_argument(
        "--posterior", choices=("diagonal", "layer", "full", "ensemble"), default="layer"
    )
    parser.add_argument("--steps", type=int, default=8000, help="optimisation steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/bayesian_regression.png", help="where to draw")
    return parser.parse_args()


def load(name: str, key: jax.Array) -> datasets.Dataset:
    if name == "quintic":
        return datasets.quintic(key)
    return getattr(datasets, name)()


def fit_posterior(posterior: str, model: nn.Module, train: dict, steps: int, key: jax.Array):
    """Returns the model and draws of its params, leading axis S."""
    fit_key, draw_key, init_key = jax.random.split(key, 3)
    schedule = optim.schedules.cosine_annealing_lr(0.02, steps)
    options = {"optimizer": optim.adam(schedule), "steps": steps, "batch_size": 128, "key": fit_key}
    if posterior == "ensemble":
        init_keys = jax.random.split(init_key, MEMBERS)
        members = jax.vmap(lambda k: model.init(k, train["x"][:1])["params"])(init_keys)
        return training.fit_ensemble(
            negative_log_likelihood(model), members, train, **options
        ).params
    # In standard units a function as steep as the impact needs input weights of 3 or so.
    prior = GaussianPrior(scale=2.0)
    q = bayes.GaussianPosterior(model, train["x"][:1], covariance=posterior, prior=prior)
    loss_fn = bayes.negative_elbo(q, num_data=len(train["x"]), num_samples=8)
    fitted = training.fit(loss_fn, q.init(init_key), train, **options)
    return q.sample(fitted.params, draw_key, NUM_DRAWS)


def draw_picture(model, draws, data, test, path: pathlib.Path) -> None:
    """One input: bands over it and beyond it. Several inputs: the calibration curve."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if data.x.shape[1] == 1:
        margin = 0.25 * np.ptp(data.x)
        grid = np.linspace(data.x.min() - margin, data.x.max() + margin, 300)[:, None]
        predictive = bayes.predict(model, draws, jnp.asarray(grid, jnp.float32))
        ax, _ = plot.predictive_bands(predictive, grid, data=(data.x, data.y))
        for edge in (data.x.min(), data.x.max()):
            ax.axvline(edge, color="grey", lw=0.8, ls=":")
        # Far from the data the bands may widen beyond all measure; show what is near them.
        height = np.ptp(data.y)
        ax.set_ylim(data.y.min() - height / 2, data.y.max() + height / 2)
        ax.set(xlabel=data.x_label, ylabel=data.y_label)
    else:
        ax, _ = plot.calibration(bayes.predict(model, draws, test["x"]), test["y"])
        ax.set_title("test rows", fontsize=9)
    ax.figure.savefig(path, dpi=150)


def main() -> None:
    args = parse_arguments()
    data_key, split_key, key = jax.random.split(jax.random.key(args.seed), 3)
    data = load(args.dataset, data_key)
    order = np.asarray(jax.random.permutation(split_key, len(data.x)))
    cut = int(TEST_SHARE * len(order))
    test, train = (
        {"x": jnp.asarray(data.x[rows]), "y": jnp.asarray(data.y[rows])}
        for rows in (order[:cut], order[cut:])
    )
    print(f"{args.dataset}: {len(train['x'])} training rows, {cut} test rows ({data.source})")

    model = nn.Sequential(
        [
            Standardize.of(train["x"]),
            MLP((10,), nn.tanh),
            heads.NormalHead(
                target_mean=float(train["y"].mean()), target_std=float(train["y"].std())
            ),
        ]
    )
    draws = fit_posterior(args.posterior, model, train, args.steps, key)
    print("\nTest rows. ", end="")
    print(metrics.report(bayes.predict(model, draws, test["x"]), test["y"]))

    path = pathlib.Path(args.out)
    draw_picture(model, draws, data, test, path)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main()
