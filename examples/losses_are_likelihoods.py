"""Every loss is a likelihood, every regulariser a prior: the same numbers, said twice.

python examples/losses_are_likelihoods.py
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import datasets, heads, objectives, optim, plot, training
from jaxprob.objectives import likelihood, priors


def compare_losses(key: jax.Array) -> Table:
    """The familiar loss, and factor x (-mean log p) + offset, on random predictions."""
    keys = jax.random.split(key, 3)
    output, real = jax.random.normal(keys[0], (200, 3)), jax.random.normal(keys[1], (200, 3))
    calls = {
        "mse": (likelihood.mse, real, "Normal(prediction, 1)"),
        "mae": (likelihood.mae, real, "Laplace(prediction, 1)"),
        "binary_cross_entropy": (
            likelihood.binary_cross_entropy, (real > 0).astype(float), "Bernoulli(logits)",
        ),
        "cross_entropy": (
            likelihood.cross_entropy, jax.random.randint(keys[2], (200,), 0, 3),
            "Categorical(logits)",
        ),
    }  # fmt: skip
    table = Table("loss", "its value", "factor x (-mean log p) + offset", "likelihood")
    for name, (loss, y, words) in calls.items():
        distribution, factor, offset = likelihood.likelihood_of(name)
        other = factor * -distribution(output).log_prob(y).mean() + offset
        table.add_row(name, f"{loss(output, y):.6f}", f"{other:.6f}", words)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/losses_are_likelihoods.png", help="where to draw")
    args = parser.parse_args()
    Console().print(compare_losses(jax.random.key(args.seed)))

    print(priors.prior_for_weight_decay(1e-4, 10_000))
    print(priors.prior_for_weight_decay(1e-4, 10_000, "coefficient |w|^2"))

    # Linear regression on ten standardised measurements, under no prior, the Gaussian (L2), and
    # the Laplace (L1), the last by proximal steps: only there are weights exactly zero.
    data = datasets.diabetes()
    x = (data.x - data.x.mean(0)) / data.x.std(0)
    y = (data.y - data.y.mean()) / data.y.std()
    rows = {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    model = heads.NormalHead(homoscedastic=True)
    l1, lr = 0.1, 0.05
    nll = objectives.negative_log_likelihood(model)
    gaussian = objectives.map_loss(
        model, objectives.GaussianPrior(0.1), len(x), select=lambda path: path.endswith("kernel")
    )
    runs = {
        "no prior": (nll, optim.sgd(lr)),
        "w ~ N(0, 0.1^2)": (gaussian, optim.sgd(lr)),
        f"w ~ Laplace({priors.prior_for_l1(l1, len(x)).scale:.3f})": (
            nll,
            optim.proximal_l1(optim.sgd(lr), lr, l1),
        ),
    }
    table = Table("prior", "weights that are exactly 0", "mean |w|", "NLL (nats a row)")
    weights = {}
    for name, (loss, optimizer) in runs.items():
        fitted = training.fit(
            loss,
            model.init(jax.random.key(args.seed), rows["x"])["params"],
            rows,
            optimizer=optimizer,
            steps=args.steps,
            batch_size=len(x),
            key=jax.random.key(args.seed),
            progress=False,
        )
        w = np.asarray(fitted.params["out"]["kernel"][:, 0])
        weights[name] = w
        score, _ = nll(fitted.params, rows, jax.random.key(0))
        zeros, size = f"{(w == 0).sum()} of {len(w)}", f"{np.abs(w).mean():.4f}"
        table.add_row(name, zeros, size, f"{score:.4f}")
    Console().print(table)

    (ax,) = plot.new_row(1)
    for i, (name, w) in enumerate(weights.items()):
        ax.bar(np.arange(len(w)) + 0.25 * (i - 1), w, 0.25, label=name)
    names = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    ax.set_xticks(range(len(names)), names)
    ax.axhline(0.0, color="black", lw=0.8)
    ax.set(ylabel="weight (standard units)", title="the prior decides which weights remain")
    ax.legend()
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    ax.figure.savefig(path, dpi=150)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
