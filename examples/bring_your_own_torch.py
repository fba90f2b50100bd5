"""Port a PyTorch model and prove it: a classic trap is found, named, mended, and the run repeated.

The PyTorch module below is the original. The first Flax port looks the same and is not: its norm
has another epsilon. `check_parity` says so.

    python examples/bring_your_own_torch.py
"""

import argparse
import pathlib

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch

from jaxprob import interop, optim


class Original(torch.nn.Module):
    """What somebody trained in PyTorch."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(10, 64)
        self.norm = torch.nn.LayerNorm(64)
        self.last = torch.nn.Linear(64, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


class Port(nn.Module):
    """The same in Flax, attribute by attribute."""

    epsilon: float = 1e-6  # Linen's default; PyTorch's is 1e-5

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(64, name="first")(x)
        x = nn.LayerNorm(epsilon=self.epsilon, use_fast_variance=False, name="norm")(x)
        return nn.Dense(1, name="last")(jnp.tanh(x))


def squared_error(output, batch):
    return ((output - batch["y"]) ** 2).mean()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=100, help="optimisation steps to compare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="output/parity", help="folder of reports and weights")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    module = Original()
    x = rng.normal(size=(32, 10))
    batch = {"x": x, "y": np.sin(x[:, :1])}
    folder = pathlib.Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {
        "jax_loss": squared_error,
        "torch_loss": squared_error,
        "optimizer": (optim.adam(1e-3), lambda p: torch.optim.Adam(p, 1e-3)),
        "steps": options.steps,
    }

    print("The first port:")
    report = interop.check_parity(Port(), module, batch, **arguments)
    print(report)
    report.save(folder / "first.html")

    print("The mended port:")
    report = interop.check_parity(Port(epsilon=1e-5), module, batch, **arguments)
    print(report)
    report.require(value=1e-12, grad=1e-11, trajectory=1e-10)
    report.save(folder / "mended.html")

    # The weights go along: one file, read by both frameworks.
    path = folder / "weights.safetensors"
    interop.save(path, module)
    example = Port().init({"params": _key()}, jnp.zeros((1, 10)))["params"]
    params = interop.load(path, example)
    output = Port(epsilon=1e-5).apply({"params": params}, jnp.asarray(x, jnp.float32))
    expected = module(torch.tensor(x, dtype=torch.float32)).detach().numpy()
    print(f"float32 outputs from the file differ by {np.abs(output - expected).max():.1e}")
    print(f"reports and weights: {folder}")


def _key():
    import jax

    return jax.random.key(0)


if __name__ == "__main__":
    main()
