"""A variational autoencoder of handwritten digits: train it, measure it, look at what it learned.

By default on scikit-learn's 8 x 8 digits; with --data DIR on MNIST (DIR/mnist/mnist_train.npz, "x"
(60000, 28, 28) grey levels 0 to 255). Pixels are drawn anew in each step with their grey level as
probability, and the KL is raised from 0 over the first third of the steps, so that the latents are
in use before they have to pay for it. The picture: samples from the prior, digits beside their
reconstructions, paths between digits, and what each of the most active latents does.

    python examples/vae.py
    python examples/vae.py --data DIR --steps 20000
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jaxprob import objectives, optim, training, vae


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, default=None, help="folder with MNIST")
    parser.add_argument("--steps", type=int, default=6000, help="optimisation steps")
    parser.add_argument("--latent-dim", type=int, default=10)
    parser.add_argument("--conv", action="store_true", help="convolutions, not dense layers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/vae.png", help="where to draw")
    return parser.parse_args()


def load(folder: pathlib.Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Grey levels in [0, 1] to train on and to test on, `[N, H, W, 1]`."""
    if folder is None:
        images, held_out = load_digits().images / 16.0, 297
    else:
        images = np.load(folder / "mnist" / "mnist_train.npz")["x"] / 255.0
        held_out = 10_000
    images = images[..., None].astype(np.float32)
    return images[:-held_out], images[-held_out:]


def make_model(shape: tuple[int, ...], latent_dim: int, conv: bool):
    """The model, and the form in which it takes images."""
    if conv:
        return vae.ConvVAE(shape, latent_dim=latent_dim), shape
    size = int(np.prod(shape))
    return vae.DenseVAE(features=size, hidden=(256, 128), latent_dim=latent_dim), (size,)


def panel(figure, title: str, rows: list[np.ndarray], shape: tuple[int, ...]) -> None:
    """Rows of images."""
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, images in zip(axes, rows, strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(np.reshape(image, shape[:2]), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set_axis_off()


def draw(model, params, x: np.ndarray, shape, report, key, path: pathlib.Path) -> pathlib.Path:
    figure = Figure(figsize=(11, 9), layout="constrained")
    parts = figure.subfigures(2, 2, wspace=0.06, hspace=0.04).ravel()
    samples = np.asarray(vae.sample(model, params, key, 48, mean=True))
    panel(parts[0], "samples from the prior", list(samples.reshape(6, 8, -1)), shape)
    shown = x[:24].reshape(3, 8, -1)
    copies = np.asarray(vae.reconstruct(model, params, x[:24]).mean()).reshape(3, 8, -1)
    lines = [line for pair in zip(shown, copies, strict=True) for line in pair]
    panel(parts[1], "digits and their reconstructions", lines, shape)
    path_images = vae.interpolate(model, params, x[:6], x[6:12], num=8, spherical=True).mean()
    lines = list(np.swapaxes(np.asarray(path_images).reshape(8, 6, -1), 0, 1))
    panel(parts[2], "paths between digits", lines, shape)
    most = np.argsort(-report.activity)[:6]
    values = np.linspace(-2.5, 2.5, 8)
    lines = [vae.traverse(model, params, x[:1], int(i), values).mean()[:, 0] for i in most]
    panel(parts[3], f"latents {', '.join(map(str, most))} from -2.5 to 2.5",
          [np.asarray(line).reshape(8, -1) for line in lines], shape)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    args = parse_arguments()
    init_key, fit_key, pixel_key, key = jax.random.split(jax.random.key(args.seed), 4)
    train, test = load(args.data)
    shape = train.shape[1:]
    model, form = make_model(shape, args.latent_dim, args.conv)
    train, grey = train.reshape(-1, *form), test.reshape(-1, *form)
    params = model.init(init_key, train[:1], jnp.zeros((1, args.latent_dim)))["params"]

    beta = objectives.linear_annealing(max(args.steps // 3, 1))
    fitted = training.fit(
        vae.negative_elbo(model, beta=beta, binarize=True),
        params,
        {"x": train},
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(2e-3, args.steps)),
        steps=args.steps,
        batch_size=100,
        key=fit_key,
    )

    x = vae.binarize(grey, pixel_key)[:1000]
    report = vae.diagnostics(model, fitted.params, x, key)
    marginal = vae.log_marginal(model, fitted.params, x[:200], key, num_samples=500)
    error = float(jnp.sqrt(jnp.sum(marginal.standard_error**2)) / len(marginal.value))
    print(f"held-out digits: {report}")
    print(f"log p(x) {float(marginal.value.mean()):.2f} +- {error:.2f} nats (Monte Carlo error)")
    print(f"active units: {report.active_units}")
    out = draw(model, fitted.params, grey, shape, report, key, pathlib.Path(args.out))
    print(f"picture: {out}")


if __name__ == "__main__":
    main()
