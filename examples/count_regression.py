"""Counts: exposure, overdispersion, extra zeros. One question, four likelihoods.

Generated claims of insured persons: observed for different times, more varied than Poisson's, and
some persons never claim. The truth is known, so the table shows what each likelihood misses.

    python examples/count_regression.py
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxprob import heads, objectives, optim, plot, training
from jaxprob.distributions import NegativeBinomial, ZeroInflated

ROWS, LARGEST = 4000, 25


def claims(key: jax.Array, rows: int) -> dict[str, jax.Array]:
    """Features `[N, 2]`, exposure in years `[N, 1]`, number of claims `[N, 1]`."""
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (rows, 2))
    exposure = jax.random.uniform(keys[1], (rows, 1), minval=0.2, maxval=5.0)
    mean = exposure * jnp.exp(0.3 + 0.6 * x[:, :1] - 0.4 * x[:, 1:])
    counts = NegativeBinomial(2.0, logits=jnp.log(mean / 2.0))
    truth = ZeroInflated(counts, -1.0 + 1.0 * x[:, 1:])
    return {"x": x, "exposure": exposure, "y": truth.sample(seed=keys[2]).astype(jnp.float32)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/count_regression.png", help="where to draw")
    args = parser.parse_args()

    keys = jax.random.split(jax.random.key(args.seed), 4)
    train, test = claims(keys[0], ROWS), claims(keys[1], ROWS)
    rate = float(train["y"].sum() / train["exposure"].sum())
    mean = float(train["y"].mean())
    candidates = {
        "Poisson, exposure ignored": (heads.PoissonHead(target_mean=mean), ("x",)),
        "Poisson": (heads.PoissonHead(target_mean=rate), ("x", "exposure")),
        "negative binomial": (heads.NegativeBinomialHead(target_mean=rate), ("x", "exposure")),
        "negative binomial, extra zeros": (
            heads.NegativeBinomialHead(zero_inflated=True, target_mean=rate),
            ("x", "exposure"),
        ),
    }
    table = Table("likelihood", "test NLL (nats a row)", "share of zeros", "above 10 claims")
    ks = jnp.arange(LARGEST + 1.0)
    shares = {}
    for name, (model, inputs) in candidates.items():
        fitted = training.fit(
            objectives.negative_log_likelihood(model, inputs),
            model.init(keys[2], *(train[name][:1] for name in inputs))["params"],
            train,
            optimizer=optim.adam(optim.schedules.cosine_annealing_lr(0.05, args.steps)),
            steps=args.steps,
            batch_size=500,
            key=keys[3],
        )
        prediction = model.apply({"params": fitted.params}, *(test[name] for name in inputs))
        nll = -float(prediction.log_prob(test["y"]).mean())
        # what share of the test rows should have k claims, says the model
        each = jax.jit(jax.vmap(lambda k, p=prediction: p.marginal().prob(k).mean()))
        shares[name] = np.asarray(each(ks))
        above = float(prediction.prob_above(10.0).mean())
        table.add_row(name, f"{nll:.3f}", f"{shares[name][0]:.3f}", f"{above:.4f}")
    y = np.asarray(test["y"][:, 0])
    table.add_section()
    table.add_row("what happened", "", f"{(y == 0).mean():.3f}", f"{(y > 10).mean():.4f}")
    Console().print(table)

    # Rootogram (Kleiber & Zeileis 2016): bars hang from the prediction; a gap below 0 is a miss.
    observed = np.array([(y == k).mean() for k in range(LARGEST + 1)])
    axes = plot.new_row(2)
    for ax, name in zip(axes, list(candidates)[1::2], strict=True):
        predicted = np.sqrt(shares[name])
        ax.bar(ks, np.sqrt(observed), bottom=predicted - np.sqrt(observed), color="lightgrey")
        ax.plot(ks, predicted, "o-", color="tab:red", ms=3, label="predicted")
        ax.axhline(0.0, color="black", lw=0.8)
        ax.set(title=name, xlabel="claims", ylabel="square root of the share of rows")
        ax.legend()
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    axes[0].figure.savefig(path, dpi=150)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
