"""Port a convolutional VAE from PyTorch to Flax: images, two heads, and a decoder that upsamples.

The original is written and trained as in PyTorch's tutorials, channels first. The port keeps its
channels last, as Flax has them; `channels_first` tells `check_parity` so. The noise of the latent
is an input of both, so that one draw is the same draw. Each report names one thing to mend. In the
picture stand digits, and what the two frameworks make of them.

    python examples/port_conv_vae.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import jaxprob.nn
from jaxprob import interop

LATENT = 6


class TorchVAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.mean, self.log_variance = torch.nn.Linear(128, LATENT), torch.nn.Linear(128, LATENT)
        self.wide = torch.nn.Linear(LATENT, 128)
        self.up1 = torch.nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1)
        self.up2 = torch.nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)

    def forward(self, x, noise):
        h = F.relu(self.conv2(F.relu(self.conv1(x)))).flatten(1)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * noise
        h = F.relu(self.wide(z)).view(-1, 32, 2, 2)
        return self.up2(F.relu(self.up1(h))), mean, log_variance


class VAE(nn.Module):
    same: bool = True  # Linen's padding of a convolution; PyTorch's has 1 on either side
    last: bool = True  # a plain reshape makes the channel the fastest index
    crop: int = 1  # what a transposed convolution of Linen pads; PyTorch says what it removes

    @nn.compact
    def __call__(self, x, noise):
        padding = "SAME" if self.same else 1
        h = nn.relu(nn.Conv(16, (3, 3), 2, padding, name="conv1")(x))
        h = nn.relu(nn.Conv(32, (3, 3), 2, padding, name="conv2")(h))
        h = h.reshape(len(x), -1) if self.last else jaxprob.nn.Flatten()(h)
        mean, log_variance = (
            nn.Dense(LATENT, name="mean")(h),
            nn.Dense(LATENT, name="log_variance")(h),
        )
        z = mean + jnp.exp(0.5 * log_variance) * noise
        h = nn.relu(nn.Dense(128, name="wide")(z))
        h = h.reshape(-1, 2, 2, 32) if self.last else jnp.moveaxis(h.reshape(-1, 32, 2, 2), 1, 3)
        pads = ((self.crop, self.crop),) * 2
        h = nn.relu(nn.ConvTranspose(16, (4, 4), (2, 2), pads, name="up1")(h))
        return nn.ConvTranspose(1, (4, 4), (2, 2), pads, name="up2")(h), mean, log_variance


def jax_loss(output, batch):
    logits, mean, log_variance = output
    pixels = optax.sigmoid_binary_cross_entropy(logits, batch["x"]).sum()
    kl = -0.5 * jnp.sum(1.0 + log_variance - mean**2 - jnp.exp(log_variance))
    return (pixels + kl) / len(batch["x"])


def torch_loss(output, batch):
    logits, mean, log_variance = output
    pixels = F.binary_cross_entropy_with_logits(logits, batch["x"], reduction="sum")
    kl = -0.5 * torch.sum(1.0 + log_variance - mean**2 - log_variance.exp())
    return (pixels + kl) / len(batch["x"])


def train(module: torch.nn.Module, images: np.ndarray, steps: int, rng) -> float:
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(steps):
        x = torch.tensor(images[rng.integers(0, len(images), 100)])
        noise = torch.tensor(rng.normal(size=(100, LATENT)), dtype=torch.float32)
        loss = torch_loss(module(x, noise), {"x": x})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def draw(rows: dict[str, np.ndarray], path: pathlib.Path) -> None:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for line, (name, images) in zip(figure.subfigures(len(rows), 1), rows.items(), strict=True):
        line.suptitle(name, fontsize=9)
        for ax, image in zip(line.subplots(1, len(images)), images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0.0, vmax=1.0)
            ax.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000, help="steps in PyTorch before the port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/port_conv_vae.png", help="where to draw")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    images = (load_digits().images / 16.0).astype(np.float32)
    module = TorchVAE()
    loss = train(module, images[:1500, None], options.steps, rng)
    print(f"PyTorch after {options.steps} steps: -ELBO {loss:.2f} nats")

    batch = {"x": images[1500:1512, ..., None], "noise": rng.normal(size=(12, LATENT))}
    for port in (VAE(), VAE(same=False), VAE(False, last=False), VAE(False, False, crop=2)):
        report = interop.check_parity(
            port,
            module,
            batch,
            inputs=("x", "noise"),
            channels_first=("x",),
            jax_loss=jax_loss,
            torch_loss=torch_loss,
        )
        print(f"\n{port}\n{report}")
    report.require(value=1e-12, grad=1e-10)

    x, noise = batch["x"], np.zeros((12, LATENT), np.float32)
    params = interop.from_torch(module, port.init(jax.random.key(0), x, noise)["params"])
    ours = jax.nn.sigmoid(port.apply({"params": params}, x, noise)[0])
    theirs = module(torch.tensor(np.moveaxis(x, -1, 1)), torch.tensor(noise))[0].sigmoid()
    rows = {"digits": x, "PyTorch": theirs.detach().numpy(), "JAX": np.asarray(ours)}
    draw(rows, pathlib.Path(options.out))
    gap = np.abs(rows["PyTorch"][:, 0] - rows["JAX"][..., 0]).max()
    print(f"pixels in float32 differ by at most {gap:.1e}; picture: {options.out}")


if __name__ == "__main__":
    main()
