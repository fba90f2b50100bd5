"""Pairs of models that are broken on purpose: each classic trap once, at a random depth.

A trap is a Flax layer and a PyTorch layer that look alike and are not. It stands between blocks
that do agree. Weights are drawn at random, so that no trap hides behind a zero or a one.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch

__all__ = ["TRAPS", "Pair", "build"]


@dataclasses.dataclass
class Pair:
    """Two models that differ, and what is to be found.

    Attributes:
      flax_model: The Flax side.
      torch_module: The PyTorch side.
      batch: Data.
      suspect: The cause that must be named.
      layer: The layer that must be named.
      options: Further arguments of `check_parity`.
    """

    flax_model: Any
    torch_module: torch.nn.Module
    batch: dict[str, np.ndarray]
    suspect: str
    layer: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


WIDTH = 4
TRAPS: dict[str, Callable[[np.random.Generator], Pair]] = {}


def build(name: str, seed: int) -> Pair:
    """Returns the broken pair of that name; the seed decides depth and weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    pair = TRAPS[name](rng)
    with torch.no_grad():
        for tensor_name, tensor in pair.torch_module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.tensor(rng.normal(size=tensor.shape)).to(tensor)
                tensor.add_(0.3 * (noise.abs() if "running_var" in tensor_name else noise))
    return pair


def trap(function: Callable) -> Callable:
    TRAPS[function.__name__.replace("_", " ")] = function
    return function


class Net(nn.Module):
    """Layers in a row; `layer_i` is the name of layer i, calls with `mask` get the mask."""

    layers: tuple

    @nn.compact
    def __call__(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask) if getattr(layer, "masked", False) else layer(x)
        return x


def vectors(
    rng: np.random.Generator,
    ours: Callable[[str], Any],
    twin: torch.nn.Module,
    suspect: str,
    place: str = "in",
    **options: Any,
) -> Pair:
    """The trap among dense layers: tanh after each."""
    before, after = rng.integers(1, 4), rng.integers(1, 3)
    flax_layers, torch_layers = [], []

    def dense() -> None:
        name = f"layers_{len(torch_layers)}"
        flax_layers.append(nn.Dense(WIDTH, name=name))
        flax_layers.append(jnp.tanh)
        torch_layers.extend([torch.nn.Linear(WIDTH, WIDTH), torch.nn.Tanh()])

    for _ in range(before):
        dense()
    flax_layers.append(nn.Dense(WIDTH, name=f"layers_{len(torch_layers)}"))
    torch_layers.append(torch.nn.Linear(WIDTH, WIDTH))
    position = len(torch_layers)
    flax_layers.append(ours(f"layers_{position}"))
    torch_layers.append(twin)
    for _ in range(after):
        dense()
    layer = str(position if place == "in" else position - 1)
    batch = {"x": 2 * rng.normal(size=(7, WIDTH))}
    module = torch.nn.Sequential(*torch_layers)
    return Pair(Net(tuple(flax_layers)), module, batch, suspect, layer, options)
