"""Completing digits of which parts are hidden: train on them, and draw what is missing.

scikit-learn's 8 x 8 digits, black and white. In training every pixel of every digit is hidden with
probability one half, and the model never sees it. Held-out digits then lose their lower half; the
completions are draws given the upper one: where it leaves open what the digit is, they differ.
Among many proposals each draw chooses one by its importance weight, which mends what the encoder
gets wrong. The picture: digits, what is seen of them, draws, and the mean of many.

    python examples/vae_missing.py
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jaxprob import optim, training, vae

HELD_OUT = 297


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=6000, help="optimisation steps")
    parser.add_argument("--proposals", type=int, default=200, help="among which a draw chooses")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/vae_missing.png", help="where to draw")
    return parser.parse_args()


def load(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Black and white digits to train on and to test on, `[N, 64]`."""
    x = (load_digits().images.reshape(-1, 64) > 7.5).astype(np.float32)
    x = x[rng.permutation(len(x))]
    return x[:-HELD_OUT], x[-HELD_OUT:]


def fit(model, x: np.ndarray, rng: np.random.Generator, steps: int, key: jax.Array):
    """Params of a model that was shown half of the pixels."""
    init_key, fit_key = jax.random.split(key)
    params = model.init(init_key, x[:1], jnp.zeros((1, model.latent_dim)))["params"]
    # each digit in eight copies, each with other pixels hidden
    copies = np.tile(x, (8, 1))
    batch = {"x": copies, "x_observed": rng.random(copies.shape) < 0.5}
    return training.fit(
        vae.negative_iwae(model, 5),
        params,
        batch,
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(2e-3, steps)),
        steps=steps,
        batch_size=100,
        key=fit_key,
    ).params


def hidden_nll(mean: np.ndarray, x: np.ndarray, hidden: np.ndarray) -> float:
    """-log p of the hidden pixels of a row, each by the mean of its draws, in nats."""
    p = np.clip(mean, 1e-3, 1 - 1e-3)
    terms = np.where(x > 0.5, np.log(p), np.log1p(-p))
    return float(-np.mean(np.sum(terms * hidden, axis=-1)))


def draw(x, seen, draws, mean, path: pathlib.Path) -> pathlib.Path:
    """Rows of digits: whole, as seen, four completions, the mean."""
    rows = [x, np.where(seen, x, 0.35), *draws, mean]
    names = ["digit", "seen", "draws", "", "", "", "mean"]
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    axes = figure.subplots(len(rows), x.shape[0])
    for line, images, name in zip(axes, rows, names, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    args = parse_arguments()
    rng, key = np.random.default_rng(args.seed), jax.random.key(args.seed)
    train, test = load(rng)
    model = vae.DenseVAE(features=64, hidden=(256, 128), latent_dim=10)
    params = fit(model, train, rng, args.steps, key)

    seen = np.broadcast_to(np.arange(64) < 32, test.shape)
    batch = {"x": np.where(seen, test, np.nan), "x_observed": seen}
    marginal = vae.log_marginal(model, params, batch, key, 1000)
    print(
        f"log p(what is seen) {float(marginal.value.mean()):.2f} nats a digit; its error can be "
        f"trusted for {float(marginal.reliable.mean()):.0%} of them, median k "
        f"{float(jnp.median(marginal.pareto_k)):.2f}"
    )
    for count in (1, args.proposals):
        means = vae.impute(model, params, batch, key, 50, num_proposals=count, mean=True)
        nll = hidden_nll(np.asarray(means).mean(0), test, ~seen)
        print(f"hidden pixels, {count} proposals: {nll:.2f} nats a digit")
    share = np.mean(train[:, 32:], axis=0)
    guess = np.broadcast_to(np.concatenate([np.zeros(32), share]), test.shape)
    print(f"hidden pixels by their share among all digits: {hidden_nll(guess, test, ~seen):.2f}")

    some = {name: value[:12] for name, value in batch.items()}
    draws = vae.impute(model, params, some, key, 4, num_proposals=args.proposals)
    many = vae.impute(model, params, some, key, 50, args.proposals, mean=True).mean(0)
    out = draw(test[:12], seen[:12], np.asarray(draws), np.asarray(many), pathlib.Path(args.out))
    print(f"picture: {out}")


if __name__ == "__main__":
    main()
