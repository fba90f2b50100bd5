"""The inverse problem: where a curve folds back, several answers are right.

x = y + 0.3 sin(2 pi y) + noise is easy forwards. Backwards, from x to y, a normal prediction stands
between the branches, where no answer is; a mixture density network stands on them.

    python examples/mixture_density.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import objectives, optim, plot, training
from jaxprob.supervised import GaussianRegressor, MixtureDensityNetwork

ROWS = 1000


def inverse_problem(key: jax.Array, rows: int) -> dict[str, jax.Array]:
    """Bishop, "Pattern Recognition and Machine Learning", 5.6: the toy kinematics."""
    y_key, noise_key = jax.random.split(key)
    y = jax.random.uniform(y_key, (rows, 1))
    x = y + 0.3 * jnp.sin(2 * jnp.pi * y)
    return {"x": x + 0.05 * jax.random.normal(noise_key, x.shape), "y": y}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--components", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/mixture_density.png", help="where to draw")
    args = parser.parse_args()

    keys = jax.random.split(jax.random.key(args.seed), 4)
    train, test = inverse_problem(keys[0], ROWS), inverse_problem(keys[1], ROWS)
    units = {"target_mean": float(train["y"].mean()), "target_std": float(train["y"].std())}
    models = {
        "normal": GaussianRegressor((32, 32), activation=nn.tanh, **units),
        f"mixture of {args.components}": MixtureDensityNetwork(
            (32, 32), args.components, activation=nn.tanh, **units
        ),
    }
    table = Table("prediction", "training NLL", "test NLL (nats a row)")
    predictions = {}
    grid = np.linspace(float(train["x"].min()), float(train["x"].max()), 300, dtype=np.float32)
    for name, model in models.items():
        fitted = training.fit(
            objectives.negative_log_likelihood(model),
            model.init(keys[2], train["x"][:1])["params"],
            train,
            optimizer=optim.adam(optim.schedules.cosine_annealing_lr(5e-3, args.steps)),
            steps=args.steps,
            batch_size=200,
            key=keys[3],
        )
        predict = jax.jit(lambda x, model=model, w=fitted.params: model.apply({"params": w}, x))
        scores = [-float(predict(rows["x"]).log_prob(rows["y"]).mean()) for rows in (train, test)]
        table.add_row(name, *(f"{score:.3f}" for score in scores))
        predictions[name] = predict(grid[:, None])
    Console().print(table)

    heights = np.linspace(-0.1, 1.1, 240, dtype=np.float32)
    axes = plot.new_row(len(models))
    for ax, (name, prediction) in zip(axes, predictions.items(), strict=True):
        density = jax.vmap(lambda y, p=prediction: p.prob(jnp.full((len(grid), 1), y)))(heights)
        extent = (grid[0], grid[-1], heights[0], heights[-1])
        # log(1 + density): thin branches and wide ones both show
        ax.imshow(np.log1p(density), origin="lower", extent=extent, aspect="auto", cmap="Blues")
        ax.plot(train["x"][:300, 0], train["y"][:300, 0], "k.", ms=1.5, alpha=0.5)
        ax.plot(grid, prediction.mean()[:, 0], color="tab:red", lw=1.2, label="mean")
        ax.set(title=f"{name}: density of y given x", xlabel="x", ylabel="y")
        ax.legend(loc="upper left")
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    axes[0].figure.savefig(path, dpi=150)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
