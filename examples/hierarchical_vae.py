"""One layer of latents, two layers, a ladder, or a flow: what does each gain on handwritten digits?

Four models of scikit-learn's 8 x 8 digits, trained for the same number of steps. Printed: the
held-out log p(x) by importance sampling with its standard error, the KL of each layer, and how many
latents are in use. A layer whose KL is 0 has learned nothing: stacked layers lose their upper ones
easily, a ladder keeps them. The picture: these numbers, and what each layer of the ladder does, by
samples with the upper latents of a line held and the lower ones drawn anew.

    python examples/hierarchical_vae.py
    python examples/hierarchical_vae.py --steps 10000
"""

import argparse
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jaxprob import objectives, optim, training, vae

PIXELS, HIDDEN, LATENTS = 64, (128,), (8, 4)
MODELS = {
    "one layer": vae.DenseVAE(PIXELS, HIDDEN, sum(LATENTS)),
    "bottom-up": vae.HierarchicalVAE(PIXELS, HIDDEN, LATENTS),
    "ladder": vae.HierarchicalVAE(PIXELS, HIDDEN, LATENTS, ladder=True),
    "flow posterior": vae.FlowPosteriorVAE(PIXELS, HIDDEN, sum(LATENTS), flow="iaf", num_layers=2),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="optimisation steps of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/hierarchical_vae.png", help="where to draw")
    return parser.parse_args()


def load() -> tuple[np.ndarray, np.ndarray]:
    """Grey levels in [0, 1] to train on and to test on, `[N, 64]`."""
    images = (load_digits().data / 16.0).astype(np.float32)
    return images[:-297], images[-297:]


def train(model, x: np.ndarray, steps: int, key):
    init_key, fit_key = jax.random.split(key)
    params = jax.jit(model.init)(init_key, x[:1], jnp.zeros((1, model.latent_dim)))["params"]
    beta = objectives.linear_annealing(max(steps // 3, 1))
    # a flow has no closed KL
    closed = not isinstance(model, vae.FlowPosteriorVAE)
    return training.fit(
        vae.negative_elbo(model, beta=beta, analytic_kl=closed, binarize=True),
        params,
        {"x": x},
        optimizer=optim.adam(optim.schedules.cosine_annealing_lr(2e-3, steps)),
        steps=steps,
        batch_size=100,
        key=fit_key,
    ).params


def measure(model, params, x: jax.Array, key) -> dict:
    """Held-out log p(x) and its Monte Carlo error; KL by layer; latents in use."""
    marginal = vae.log_marginal(model, params, x, key, num_samples=200, chunk_size=10)
    report = vae.diagnostics(model, params, x[:100], key)
    layered = isinstance(model, vae.HierarchicalVAE)
    parts = model.layers(report.kl_per_latent) if layered else [report.kl_per_latent]
    return {
        "log p": float(marginal.value.mean()),
        "error": float(jnp.sqrt(jnp.sum(marginal.standard_error**2)) / len(x)),
        "kl": [float(part.sum()) for part in parts],
        "active": f"{report.active_units} of {model.latent_dim}",
    }


def redrawn(model, params, key, lines: int, columns: int) -> np.ndarray:
    """Means of p(x | z), the upper latents one draw a line, `[lines, columns, 64]`."""
    variables = {"params": params}
    z_key, eps_key = jax.random.split(key)
    z = model.apply(variables, z_key, lines, method="sample_prior")
    z = jnp.broadcast_to(z[:, None], (lines, columns, model.latent_dim))
    # the first of each line: the lower latents at their mean, given the upper ones
    eps = jax.random.normal(eps_key, z.shape).at[:, 0].set(0.0)
    z = model.apply(variables, z, eps, len(model.latent_dims) - 1, method="redraw")
    return np.asarray(model.apply(variables, z, method="decode").mean())


def draw(found: dict, images: np.ndarray, path: pathlib.Path) -> pathlib.Path:
    figure = Figure(figsize=(11, 6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.2), wspace=0.04)
    above, below = left.subplots(2, 1)
    names = list(found)
    values, errors = ([row[key] for row in found.values()] for key in ("log p", "error"))
    above.errorbar(values, range(len(names)), xerr=2 * np.array(errors), fmt="o", capsize=4)
    above.set_title("held-out log p(x), two standard errors (nats)", fontsize=10)
    for layer, label in enumerate(("lower, or the only one", "upper")):
        widths = [row["kl"][layer] if layer < len(row["kl"]) else 0.0 for row in found.values()]
        starts = [row["kl"][0] if layer else 0.0 for row in found.values()]
        below.barh(names, widths, left=starts, label=label)
    below.set_title("KL of each layer (nats)", fontsize=10)
    below.legend(title="layer", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    for ax in (above, below):
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
    right.suptitle(
        "samples of the ladder: a line holds the upper latents;\n"
        "left the mean of the lower ones, then draws of them", fontsize=10
    )  # fmt: skip
    grid = right.subplots(*images.shape[:2])
    for ax, image in zip(grid.ravel(), images.reshape(-1, PIXELS), strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0.0, vmax=1.0)
        ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    args = parse_arguments()
    fit_key, pixel_key, key = jax.random.split(jax.random.key(args.seed), 3)
    digits, grey = load()
    test = vae.binarize(grey, pixel_key)
    fitted, found = {}, {}
    for name, model in MODELS.items():
        print(f"{name}:")
        fitted[name] = train(model, digits, args.steps, fit_key)
        found[name] = measure(model, fitted[name], test, key)
    titles = ("log p(x)", "error", "latents in use")
    print(" " * 16 + "{:>10s}{:>8s}{:>16s}   KL by layer, lowest first".format(*titles))
    for name, row in found.items():
        kl = " + ".join(f"{value:.2f}" for value in row["kl"])
        print(f"{name:16s}{row['log p']:10.2f}{row['error']:8.4f}{row['active']:>16s}   {kl}")
    images = redrawn(MODELS["ladder"], fitted["ladder"], key, 7, 8)
    print(f"picture: {draw(found, images, pathlib.Path(args.out))}")


if __name__ == "__main__":
    main()
