"""A codebook for digits: each image becomes 8 codes out of 32, and comes back.

A VQ-VAE is trained on scikit-learn's 8 x 8 digits twice: codes that follow running averages of the
encodings (with unused codes revived), and codes trained by gradient. How many codes are in use (the
perplexity) and what 8 codes keep of a digit is printed and drawn, beside digits made from the
learned distribution of codes: a mixture over the 8 positions (`LatentClassModel`), fitted by EM.

    python examples/vq_vae.py
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

from jaxprob import heads, optim, training, vae
from jaxprob.nn import MLP, as_params, as_variables

CODES, POSITIONS, SIZE, CLASSES = 32, 8, 8, 40


class Encoder(nn.Module):
    """An image to 8 encodings."""

    @nn.compact
    def __call__(self, x):
        h = MLP((128,))(x)
        return nn.Dense(POSITIONS * SIZE)(h).reshape(x.shape[0], POSITIONS, SIZE)


class Decoder(nn.Module):
    """8 vectors to a distribution over images, with one scale for each pixel."""

    @nn.compact
    def __call__(self, z):
        return heads.NormalHead(64, homoscedastic=True)(MLP((128,))(z.reshape(z.shape[0], -1)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="optimisation steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/vq_vae.png", help="where to draw")
    return parser.parse_args()


def fit(decay: float | None, revive_below: float, data: dict, steps: int, key: jax.Array):
    """Returns the model, its variables and the history."""
    init_key, fit_key = jax.random.split(key)
    model = vae.VQVAE(Encoder(), Decoder(), CODES, SIZE, decay)
    fitted = training.fit(
        vae.vq_loss(model, revive_below=revive_below),
        as_params(model.init(init_key, data["train"][:1])),
        {"x": data["train"]},
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(2e-3, steps)),
        steps=steps,
        batch_size=64,
        key=fit_key,
        validation={"x": data["test"]},
    )
    return model, as_variables(fitted.params), fitted.history


def draw(rows: dict, histories: dict, path: pathlib.Path) -> pathlib.Path:
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.0, 1.2))
    above, below = left.subplots(2, 1, sharex=True)
    for name, history in histories.items():
        above.plot(history["validation_nll"], label=name)
        below.plot(history["validation_perplexity"], label=name)
    above.set(ylabel="-log p(x | codes), test (nats)")
    below.set(xlabel="epoch", ylabel="codes in use (perplexity)", ylim=(0, CODES))
    above.legend(fontsize=8)
    grid = right.subplots(len(rows), 10)
    for axes, (name, images) in zip(grid, rows.items(), strict=True):
        for ax, image in zip(axes, images, strict=True):
            ax.imshow(np.reshape(image, (8, 8)), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def main() -> None:
    args = parse_arguments()
    order_key, em_key, draw_key, key = jax.random.split(jax.random.key(args.seed), 4)
    x = (load_digits().data / 16.0).astype(np.float32)
    order = np.asarray(jax.random.permutation(order_key, len(x)))
    data = {"test": x[order[:300]], "train": x[order[300:]]}
    settings = {
        "running averages, revival": (0.95, 0.5),
        "running averages": (0.95, 0.0),
        "by gradient": (None, 0.0),
    }
    table = Table("codes", "-log p(x | codes)", "RMS error", "perplexity")
    rows, histories = {"digits": data["test"][:10]}, {}
    for name, (decay, revive_below) in settings.items():
        print(f"training: {name}")
        model, variables, history = fit(decay, revive_below, data, args.steps, key)
        seen = model.apply(variables, data["test"]).p.mean()
        rows[name], histories[name] = np.asarray(seen[:10]), history
        table.add_row(
            name,
            f"{history['validation_nll'][-1]:.2f}",
            f"{float(jnp.sqrt(jnp.mean((seen - data['test']) ** 2))):.4f}",
            f"{history['validation_perplexity'][-1]:.1f} of {CODES}",
        )
        if name == "running averages, revival":
            codes = model.apply(variables, data["train"]).indices
            classes = vae.LatentClassModel(CLASSES, (CODES,) * POSITIONS)
            prior = vae.fit_em(classes, codes, em_key, num_steps=100, pseudo_count=0.01).params
            p = classes.apply({"params": prior})
            drawn = p.sample(seed=draw_key, sample_shape=(20,))
            images = np.asarray(model.apply(variables, drawn, method="decode").mean())
            bits = -float(jnp.mean(p.log_prob(codes))) / np.log(2.0)
    rows |= {"drawn from": images[:10], "the prior": images[10:]}
    Console(width=100).print(table)
    print(f"a training digit's {POSITIONS} codes take {POSITIONS * np.log2(CODES):.0f} bits plain, "
          f"{bits:.1f} bits under the prior of {CLASSES} classes")  # fmt: skip
    print(f"picture: {draw(rows, histories, pathlib.Path(args.out))}")


if __name__ == "__main__":
    main()
