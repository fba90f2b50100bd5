"""Pairs of models that are broken on purpose: each classic trap once, at a random depth.

A trap is a Flax layer and a PyTorch layer that look alike and are not. It stands between blocks
that do agree. Weights are drawn at random, so that no trap hides behind a zero or a one.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import torch

from jaxprob import optim

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


# Functions between layers


@trap
def gelu_form(rng):
    return vectors(rng, lambda name: nn.gelu, torch.nn.GELU(), "gelu form", "after")


@trap
def leaky_relu_slope(rng):
    slope = partial(nn.leaky_relu, negative_slope=0.2)
    return vectors(rng, lambda name: slope, torch.nn.LeakyReLU(), "leaky relu form", "after")


@trap
def another_activation(rng):
    return vectors(rng, lambda name: nn.relu, torch.nn.SiLU(), "activation", "after")


@trap
def softmax_axis(rng):
    twin = torch.nn.Softmax(dim=0)
    return vectors(rng, lambda name: nn.softmax, twin, "softmax axis", "after")


# Norms


@trap
def layer_norm_epsilon(rng):
    def ours(name):
        return nn.LayerNorm(use_fast_variance=False, name=name)

    return vectors(rng, ours, torch.nn.LayerNorm(WIDTH), "epsilon")


@trap
def rms_norm_epsilon(rng):
    return vectors(rng, lambda name: nn.RMSNorm(name=name), torch.nn.RMSNorm(WIDTH), "epsilon")


@trap
def group_norm_epsilon(rng):
    def ours(name):
        return nn.GroupNorm(num_groups=2, use_fast_variance=False, name=name)

    return vectors(rng, ours, torch.nn.GroupNorm(2, WIDTH), "epsilon")


@trap
def batch_norm_running_variance(rng):
    def ours(name):
        return nn.BatchNorm(use_running_average=False, momentum=0.9, name=name)

    return vectors(rng, ours, torch.nn.BatchNorm1d(WIDTH), "running variance")


@trap
def batch_norm_momentum(rng):
    def ours(name):
        return nn.BatchNorm(use_running_average=False, momentum=0.1, name=name)

    return vectors(rng, ours, torch.nn.BatchNorm1d(WIDTH), "momentum")


@trap
def batch_norm_mode(rng):
    def ours(name):
        return nn.BatchNorm(use_running_average=False, name=name)

    pair = vectors(rng, ours, torch.nn.BatchNorm1d(WIDTH), "train or eval mode")
    pair.torch_module.eval()
    pair.flax_model = _Unmutable(pair.flax_model)
    return pair


class _Unmutable:
    """A model whose new statistics are thrown away, as a port without `mutable` does."""

    def __init__(self, model):
        self.model = model
        self.init = model.init

    def __call__(self):
        raise NotImplementedError

    def apply(self, variables, *args, **kwargs):
        return self.model.apply(variables, *args, mutable=["batch_stats"], **kwargs)[0]


# Weights


@trap
def square_kernel_not_transposed(rng):
    def ours(name):
        return nn.Dense(WIDTH, name=name)

    pair = vectors(rng, ours, torch.nn.Linear(WIDTH, WIDTH), "kernel not transposed")
    pair.options["params"] = _untransposed(pair.torch_module, pair.layer)
    return pair


def _untransposed(module, layer):
    """A conversion by hand that forgets one transpose; made when it is asked for."""

    def params():
        state = {n: t.detach().numpy() for n, t in module.state_dict().items()}
        tree: dict = {}
        for name, value in state.items():
            owner, leaf = name.split(".")
            node = tree.setdefault(f"layers_{owner}", {})
            if leaf == "bias":
                node["bias"] = value.copy()
            else:
                node["kernel"] = value.copy() if owner == layer else value.T.copy()
        return tree

    return params


# Images


def images(rng, ours, twin, suspect, channels_after=WIDTH, **options):
    """The trap among 1x1 convolutions, NHWC against NCHW."""
    before = int(rng.integers(1, 3))
    flax_layers, torch_layers = [], []

    def conv(channels):
        flax_layers.append(nn.Conv(WIDTH, (1, 1), name=f"layers_{len(torch_layers)}"))
        flax_layers.append(jnp.tanh)
        torch_layers.extend([torch.nn.Conv2d(channels, WIDTH, 1), torch.nn.Tanh()])

    for _ in range(before):
        conv(WIDTH)
    position = len(torch_layers)
    flax_layers.append(ours(f"layers_{position}"))
    torch_layers.append(twin)
    conv(channels_after)
    batch = {"x": rng.normal(size=(2, 6, 6, WIDTH))}
    options = {"channels_first": ("x",), **options}
    module = torch.nn.Sequential(*torch_layers)
    return Pair(Net(tuple(flax_layers)), module, batch, suspect, str(position), options)


@trap
def same_padding_with_a_stride(rng):
    def ours(name):
        return nn.Conv(WIDTH, (3, 3), (2, 2), padding="SAME", name=name)

    return images(rng, ours, torch.nn.Conv2d(WIDTH, WIDTH, 3, 2, padding=1), "padding")


@trap
def transposed_convolution_alignment(rng):
    def ours(name):
        return nn.ConvTranspose(WIDTH, (3, 3), (2, 2), padding="SAME", name=name)

    twin = torch.nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, padding=1, output_padding=1)
    return images(rng, ours, twin, "padding")


@trap
def average_over_padding(rng):
    def ours(name):
        return partial(
            nn.avg_pool,
            window_shape=(3, 3),
            strides=(2, 2),
            padding=((1, 1), (1, 1)),
            count_include_pad=False,
        )

    pair = images(rng, ours, torch.nn.AvgPool2d(3, 2, 1), "average over the padding")
    pair.layer = str(int(pair.layer) - 2)
    return pair


@trap
def flatten_order(rng):
    channels = int(rng.integers(2, 5))
    flax_layers = (
        nn.Conv(channels, (1, 1), name="layers_0"),
        lambda x: x.reshape(x.shape[0], -1),
        nn.Dense(WIDTH, name="layers_2"),
    )
    twin = torch.nn.Sequential(
        torch.nn.Conv2d(2, channels, 1), torch.nn.Flatten(), torch.nn.Linear(9 * channels, WIDTH)
    )
    batch = {"x": rng.normal(size=(3, 3, 3, 2))}
    options = {"channels_first": ("x",)}
    return Pair(Net(flax_layers), twin, batch, "flatten order", "0", options)


# Sequences: a Flax cell with PyTorch's weights and somebody's own idea of the gates


class HandWritten(nn.Module):
    """A recurrent layer with PyTorch's weights and one mistake."""

    kind: str

    @nn.compact
    def __call__(self, x):
        gates = {"GRU": 3, "LSTM": 4}[self.kind]
        uniform = nn.initializers.uniform(1.0)
        w_ih = self.param("weight_ih_l0", uniform, (gates * WIDTH, x.shape[-1]))
        w_hh = self.param("weight_hh_l0", uniform, (gates * WIDTH, WIDTH))
        b_ih = self.param("bias_ih_l0", uniform, (gates * WIDTH,))
        b_hh = self.param("bias_hh_l0", uniform, (gates * WIDTH,))
        h = c = jnp.zeros((x.shape[0], WIDTH), x.dtype)
        out = []
        for t in range(x.shape[1]):
            a, b = x[:, t] @ w_ih.T + b_ih, h @ w_hh.T
            if self.kind == "GRU":
                (ar, az, an), (br, bz, bn) = jnp.split(a, 3, -1), jnp.split(b, 3, -1)
                cr, cz, cn = jnp.split(b_hh, 3)
                r, z = nn.sigmoid(ar + br + cr), nn.sigmoid(az + bz + cz)
                n = jnp.tanh(an + cn + r * bn)  # cn belongs inside the product
                h = (1 - z) * n + z * h
            else:
                i, f, o, g = jnp.split(a + b + b_hh, 4, -1)  # PyTorch: i, f, g, o
                c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
                h = nn.sigmoid(o) * jnp.tanh(c)
            out.append(h)
        return jnp.stack(out, 1)


class Sequences(torch.nn.Module):
    """Linear layers before and after a sequence layer that returns a tuple."""

    def __init__(self, before: int, middle: torch.nn.Module):
        super().__init__()
        self.before = torch.nn.Sequential(
            *[torch.nn.Linear(WIDTH, WIDTH) for _ in range(before)],
        )
        self.middle, self.last = middle, torch.nn.Linear(WIDTH, 2)

    def forward(self, x, mask=None):
        x = self.before(x)
        if isinstance(self.middle, torch.nn.MultiheadAttention):
            x, _ = self.middle(x, x, x, attn_mask=mask, need_weights=False)
        else:
            x, _ = self.middle(x)
        return self.last(x)


class FlaxSequences(nn.Module):
    before: int
    middle: Any
    takes_mask: bool = False

    @nn.compact
    def __call__(self, x, mask=None):
        for i in range(self.before):
            x = nn.Dense(WIDTH, name=f"before_{i}")(x)
        middle = self.middle("middle")
        x = middle(x, mask=mask) if self.takes_mask else middle(x)
        return nn.Dense(2, name="last")(x)


def sequences(rng, ours, twin, suspect, takes_mask=False, **options):
    before = int(rng.integers(1, 4))
    model = FlaxSequences(before, ours, takes_mask)
    options["rename"] = {f"before_{i}": f"before.{i}" for i in range(before)}
    batch = {"x": rng.normal(size=(3, 4, WIDTH))}
    return Pair(model, Sequences(before, twin), batch, suspect, "middle", options)


@trap
def gru_candidate_bias(rng):
    twin = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, lambda name: HandWritten("GRU", name=name), twin, "candidate bias")


@trap
def lstm_gate_order(rng):
    twin = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, lambda name: HandWritten("LSTM", name=name), twin, "gate order")


@trap
def two_trainable_biases(rng):
    def ours(name):
        return nn.RNN(nn.GRUCell(WIDTH, name=name))

    twin = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, ours, twin, "two biases", optimizer=ADAM, steps=10)


@trap
def attention_mask_sense(rng):
    def ours(name):
        return nn.MultiHeadDotProductAttention(num_heads=2, name=name)

    twin = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    pair = sequences(rng, ours, twin, "mask sense", takes_mask=True, inputs=("x", "mask"))
    pair.batch["mask"] = np.tri(4, k=0, dtype=bool) ^ np.eye(4, k=1, dtype=bool)
    return pair


# Heads and losses


@trap
def scale_link(rng):
    return head(rng, nn.softplus, torch.exp, "activation")


@trap
def variance_for_scale(rng):
    return head(rng, nn.softplus, lambda s: torch.nn.functional.softplus(s) ** 0.5,
                "variance against standard deviation")  # fmt: skip


class Head(nn.Module):
    link: Callable

    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(WIDTH, name="hidden")(x))
        out = nn.Dense(2, name="out")(x)
        return {"loc": out[:, 0], "scale": self.link(out[:, 1])}


class TorchHead(torch.nn.Module):
    def __init__(self, link):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 2)
        self.link = link

    def forward(self, x):
        out = self.out(torch.tanh(self.hidden(x)))
        return {"loc": out[:, 0], "scale": self.link(out[:, 1])}


def head(rng, ours, twin, suspect):
    batch = {"x": rng.normal(size=(6, WIDTH))}
    return Pair(Head(ours), TorchHead(twin), batch, suspect, "out")


def agreeing(rng, suspect, **options):
    """A pair that agrees; the mistake is in loss or optimiser."""
    pair = vectors(rng, lambda name: jnp.tanh, torch.nn.Tanh(), suspect, **options)
    pair.layer = ""
    pair.batch["y"] = rng.normal(size=(7, WIDTH))
    return pair


def square_error(out, batch):
    return ((out - batch["y"]) ** 2).mean()


LOSSES = {"jax_loss": square_error, "torch_loss": square_error}
ADAM = (optim.adam(1e-2), lambda p: torch.optim.Adam(p, 1e-2))


@trap
def sum_for_mean(rng):
    def summed(out, batch):
        return ((out - batch["y"]) ** 2).mean(-1).sum()

    return agreeing(rng, "reduction", jax_loss=square_error, torch_loss=summed)


@trap
def half_square(rng):
    def half(out, batch):
        return jnp.mean(optax.l2_loss(out, batch["y"]))

    return agreeing(rng, "factor 2", jax_loss=half, torch_loss=square_error)


class Cut(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.tanh(nn.Dense(WIDTH, name="hidden")(x))
        return nn.Dense(2, name="out")(x)


class TorchCut(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.hidden(x)).detach())


@trap
def cut_gradient(rng):
    batch = {"x": rng.normal(size=(6, WIDTH))}
    return Pair(Cut(), TorchCut(), batch, "gradient cut", "hidden")


# Optimisers


@trap
def rmsprop_epsilon(rng):
    pair = (optax.rmsprop(1e-2, decay=0.99), lambda p: torch.optim.RMSprop(p, 1e-2))
    return agreeing(rng, "eps inside the root", optimizer=pair, steps=20, **LOSSES)


@trap
def adam_with_l2(rng):
    pair = (
        optax.adamw(1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, 1e-2, weight_decay=0.1),
    )
    return agreeing(rng, "decoupled weight decay", optimizer=pair, steps=20, **LOSSES)


@trap
def adamw_default(rng):
    pair = (optax.adamw(1e-2), lambda p: torch.optim.AdamW(p, 1e-2))
    return agreeing(rng, "default weight decay", optimizer=pair, steps=20, **LOSSES)


@trap
def adagrad_accumulator(rng):
    pair = (optax.adagrad(1e-2), lambda p: torch.optim.Adagrad(p, 1e-2))
    return agreeing(rng, "initial accumulator", optimizer=pair, steps=20, **LOSSES)
