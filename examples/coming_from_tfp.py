"""Two DenseVariational layers, as in TensorFlow Probability, on data whose noise changes.

    python examples/coming_from_tfp.py --steps 15000

| TensorFlow Probability | jaxprob |
|---|---|
| `DenseVariational(8, posterior_fn, prior_fn, kl_weight)` | `bayes.DenseVariational(8)` |
| `posterior_fn`: `MultivariateNormalTriL` of the weights of a layer | `covariance="full"` |
| `prior_fn`: standard normal, not trained | `prior=GaussianPrior(1.0)` |
| `kl_weight=1/len(x_train)` | `negative_elbo(model, num_data=len(x_train))` |
| `tfp.layers.IndependentNormal(1)` | `Independent(Normal(...), 1)`, returned by the module |
| `compile(RMSprop(0.005), loss=negloglik)`, `fit` | `training.fit(..., optim.rmsprop(...))` |
| the mean of 100 calls of the model | `q.sample(..., 100)`, `bayes.predict` |

A layer of n weights has n(n+3)/2 parameters: 152 for 1 x 8 + 8, 189 for 8 x 2 + 2. A standard
normal prior holds the curve flat at the edges; with `--prior-scale 3` it follows the data further,
and the draws part where the data end.
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob import bayes, datasets, optim, plot, training
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior

NUM_DRAWS = 100
EDGE = 1.0  # where the data end


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=15000, help="optimisation steps")
    parser.add_argument("--prior-scale", type=float, default=1.0, help="of each weight")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/coming_from_tfp.png", help="where to draw")
    return parser.parse_args()


class Network(nn.Module):
    """Called with a key, the layers draw their weights; without, they use the means."""

    prior: GaussianPrior

    @nn.compact
    def __call__(self, x, key=None):
        keys = (None, None) if key is None else jax.random.split(key)
        x = nn.sigmoid(bayes.DenseVariational(8, prior=self.prior, name="hidden")(x, keys[0]))
        x = bayes.DenseVariational(2, prior=self.prior, name="output")(x, keys[1])
        loc, raw_scale = jnp.split(x, 2, axis=-1)
        return Independent(Normal(loc, 1e-3 + nn.softplus(raw_scale)), 1)


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def spreads(predictive) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations: of the noise, and of the mean over the draws."""
    noise, weights = jnp.sqrt(predictive.aleatoric), jnp.sqrt(predictive.epistemic)
    return np.asarray(noise)[:, 0], np.asarray(weights)[:, 0]


def main() -> None:
    args = parse_arguments()
    data_key, init_key, fit_key, draw_key = jax.random.split(jax.random.key(args.seed), 4)
    train = datasets.quintic(data_key)
    model = Network(GaussianPrior(args.prior_scale))
    q = bayes.VariationalLayers(model)
    start = q.init(init_key, train.x[:1])
    sizes = {name: count(layer) for name, layer in start.items()}
    listed = " + ".join(str(size) for size in sizes.values())
    print(f"{', '.join(sizes)}: {listed} = {sum(sizes.values())} parameters")

    fitted = training.fit(
        bayes.negative_elbo(model, num_data=len(train.x)),
        start,
        {"x": train.x, "y": train.y},
        # the defaults of Keras; those of torch are alpha 0.99 and eps 1e-8
        optimizer=optim.rmsprop(0.005, alpha=0.9, eps=1e-7),
        steps=args.steps,
        batch_size=125,
        key=fit_key,
    )
    draws = q.sample(fitted.params, draw_key, NUM_DRAWS)

    points = np.array([[-2.0], [-EDGE], [-0.5], [0.0], [0.5], [EDGE], [2.0]], np.float32)
    predictive = bayes.predict(model, draws, points)
    print(f"\nmean of {NUM_DRAWS} draws, noise of y, and what the draws do not agree on")
    for x, mean, noise, weights in zip(
        points, predictive.mean(), *spreads(predictive), strict=True
    ):
        outside = "  (no data)" if abs(x[0]) > EDGE else ""
        print(f"x = {x[0]:5.2f}: {mean[0]:6.2f} +- {noise:.2f} +- {weights:.2f}{outside}")

    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.linspace(-2.0, 2.0, 300, dtype=np.float32)[:, None]
    ax, _ = plot.predictive_bands(bayes.predict(model, draws, grid), grid, data=(train.x, train.y))
    for edge in (-EDGE, EDGE):
        ax.axvline(edge, color="grey", lw=0.8, ls=":")
    ax.set(xlabel="x", ylabel="y", ylim=(-4, 4))
    ax.figure.savefig(path, dpi=150)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main()
