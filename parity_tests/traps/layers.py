"""Traps of single layers: functions, norms, weights, images."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import torch

from parity_tests.traps.pair import WIDTH, Net, Pair, trap, vectors

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
def padding_of_a_transposed_convolution_as_pytorch_says_it(rng):
    def ours(name):
        return nn.ConvTranspose(WIDTH, (4, 4), (2, 2), padding=((1, 1), (1, 1)), name=name)

    return images(rng, ours, torch.nn.ConvTranspose2d(WIDTH, WIDTH, 4, 2, padding=1), "padding")


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
