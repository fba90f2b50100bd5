"""One seed, two frameworks: the same classifier of handwritten digits, trained in JAX and PyTorch.

First weights, order of the rows and dropout masks are drawn inside each framework, from one key.
Nothing is copied; the picture shows both loss curves and their difference.

    python examples/train_in_both.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import torch
from sklearn.datasets import load_digits

import torch_ref.random as torch_random
from jaxprob import optim, training
from torch_ref import training as torch_training

KEEP = 0.9
BATCH = 64


class FlaxNet(nn.Module):
    """Two hidden layers with dropout; the key is an argument."""

    @nn.compact
    def __call__(self, x, key=None):
        for i, width in enumerate((64, 32)):
            x = nn.relu(nn.Dense(width, name=f"hidden_{i}")(x))
            if key is not None:
                x = x * jax.random.bernoulli(jax.random.fold_in(key, i), KEEP, x.shape) / KEEP
        return nn.Dense(10, name="out")(x)


class TorchNet(torch.nn.Module):
    """The twin."""

    def __init__(self):
        super().__init__()
        self.hidden_0, self.hidden_1 = torch.nn.Linear(64, 64), torch.nn.Linear(64, 32)
        self.out = torch.nn.Linear(32, 10)

    def forward(self, x, key=None):
        for i, layer in enumerate((self.hidden_0, self.hidden_1)):
            x = torch.relu(layer(x))
            if key is not None:
                mask = torch_random.bernoulli(torch_random.fold_in(key, i), KEEP, x.shape)
                x = x * mask / KEEP
        return self.out(x)


def jax_loss(params, batch, key):
    log_probs = jax.nn.log_softmax(FlaxNet().apply({"params": params}, batch["x"], key))
    rows = jnp.arange(len(log_probs))
    return -jnp.mean(log_probs[rows, batch["y"]]), {}


def torch_loss(module):
    def loss_fn(batch, key):
        return torch.nn.functional.cross_entropy(module(batch["x"], key), batch["y"].long()), {}

    return loss_fn


def draw(losses: np.ndarray, twin_losses: np.ndarray, path: pathlib.Path) -> None:
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, layout="constrained")
    epochs = np.arange(1, len(losses) + 1)
    top.plot(epochs, losses, color="tab:blue", linewidth=5, alpha=0.5, label="JAX")
    top.plot(epochs, twin_losses, color="tab:red", linewidth=1.2, label="PyTorch")
    top.set(ylabel="training loss (nats)", yscale="log", title="Same seed, same run")
    top.legend()
    difference = np.abs(losses - twin_losses)
    bottom.semilogy(epochs, np.maximum(difference, 1e-18), color="black")
    bottom.set(ylabel="absolute difference", xlabel="epoch")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=600, help="optimisation steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--out", default="output/train_in_both.png", help="where to draw")
    options = parser.parse_args()
    if options.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(getattr(torch, options.dtype))
    images, labels = load_digits(return_X_y=True)
    data = {"x": (images / 16).astype(options.dtype), "y": labels.astype("int32")}

    params = FlaxNet().init(jax.random.key(options.seed), data["x"][:1])["params"]
    params = jax.tree.map(lambda p: p.astype(options.dtype), params)
    fitted = training.fit(
        jax_loss, params, data, optimizer=optim.adam(1e-3), steps=options.steps,
        batch_size=BATCH, key=jax.random.key(options.seed + 1),
    )  # fmt: skip
    losses = fitted.history["loss"]

    module = TorchNet()
    torch_random.linen_init_(module, torch_random.key(options.seed), param_dtype=torch.float32)
    steps = torch_training.fit(
        torch_loss(module),
        {name: torch.tensor(array) for name, array in data.items()},
        optimizer=torch.optim.Adam(module.parameters(), 1e-3),
        steps=options.steps,
        batch_size=BATCH,
        key=torch_random.key(options.seed + 1),
    )
    per_epoch = -(-len(labels) // BATCH)
    sizes = [min(BATCH, len(labels) - i * BATCH) for i in range(per_epoch)]
    parts = [steps[i : i + per_epoch] for i in range(0, len(steps), per_epoch)]
    twin_losses = np.array([np.average(p, weights=sizes[: len(p)]) for p in parts])

    gap = np.max(np.abs(losses - twin_losses) / twin_losses)
    print(f"last loss: {losses[-1]:.9g} in JAX, {twin_losses[-1]:.9g} in PyTorch")
    print(f"largest relative difference of the losses: {gap:.1e} ({options.dtype})")
    draw(losses, twin_losses, pathlib.Path(options.out))
    print(f"picture: {options.out}")


if __name__ == "__main__":
    main()
