"""Flax Linen's initial parameters in torch, from the same seed and the same module path.

    key of a parameter      fold_in(root, first 4 bytes of SHA-1(path of its module, position))
    variance scaling        sqrt(scale / fan) times truncated normal / 0.8796..., normal, or
                            sqrt(3) uniform(-1, 1)
    orthogonal              `matrices.orthogonal` on all axes but the last, times scale

`position` is 1 for the first parameter that the module creates, 2 for the second and so on: a Dense
layer makes its kernel first, then its bias. Sources: Flax 0.12 (`flax.core.scope`, with its default
`flax_fix_rng_separator=False`), `jax.nn.initializers` 0.10; Y. LeCun et al., "Efficient BackProp",
1998; A. Saxe et al., "Exact solutions to the nonlinear dynamics of learning", ICLR 2014.

Shapes are Flax's: a Dense kernel is [in, out], a Conv kernel [*window, in, out].
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from torch_ref.random import continuous, matrices
from torch_ref.random.base import NUMPY_FLOAT, float_dtype, uniform
from torch_ref.random.keys import fold_in

__all__ = [
    "Initializer",
    "embedding",
    "fold_path",
    "lecun_normal",
    "linen_init_",
    "normal",
    "ones",
    "orthogonal",
    "param_key",
    "variance_scaling",
    "zeros",
]


class Initializer(Protocol):
    """Draws a parameter: `init(key, shape, dtype)`, as in `jax.nn.initializers`."""

    def __call__(
        self, key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None
    ) -> Tensor:
        """Returns the parameter `[*shape]`; `dtype` defaults to `torch.get_default_dtype()`."""
        ...


def fold_path(key: Tensor, path: Sequence[str | int]) -> Tensor:
    """Folds names and counters into a key, as Linen does for parameters and for `make_rng`.

    Args:
        key: Key `[2]`, the one given to Linen's `init` or `apply`.
        path: Names of the modules from the top down, then how often this module has asked, counted
            from 1: the first dropout mask of layer `Dropout_0` has the path `("Dropout_0", 1)`.

    Returns:
        Key `[2]`; the given one if `path` is empty.
    """
    if not path:
        return key
    digest = hashlib.sha1()
    for part in path:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(part.to_bytes((part.bit_length() + 7) // 8, "big"))
    return fold_in(key, int.from_bytes(digest.digest()[:4], "big"))


def param_key(root: Tensor, path: str | Sequence[str], position: int = 1) -> Tensor:
    """Returns the key from which Linen draws one parameter.

    Args:
        root: Key `[2]` given to `module.init`.
        path: Path of the module in the parameter tree, as `"encoder/Dense_0"` or as a tuple of
            names; empty for parameters of the top module.
        position: The parameter's place in the order in which the module creates its own.

    Returns:
        Key `[2]`.
    """
    names = path.split("/") if isinstance(path, str) else path
    return fold_path(root, (*(name for name in names if name), position))


def variance_scaling(
    scale: float,
    mode: Literal["fan_in", "fan_out", "fan_avg"],
    distribution: Literal["truncated_normal", "normal", "uniform"],
    in_axis: int = -2,
    out_axis: int = -1,
) -> Initializer:
    """Makes an initialiser whose draws have variance scale / fan.

    Args:
        scale: Factor of the variance.
        mode: Which fan: inputs, outputs, or their mean. Axes that are neither count to both.
        distribution: Shape of the draws; the truncated normal is cut at two standard deviations.
        in_axis: Axis of the inputs.
        out_axis: Axis of the outputs.

    Returns:
        Initialiser.

    Raises:
        ValueError: If `mode` or `distribution` is unknown.
    """
    if mode not in ("fan_in", "fan_out", "fan_avg"):
        raise ValueError(f'mode must be "fan_in", "fan_out" or "fan_avg", got {mode!r}')
    if distribution not in ("truncated_normal", "normal", "uniform"):
        raise ValueError(f"distribution {distribution!r} is unknown")

    def init(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        dtype = float_dtype(dtype)
        size = math.prod(shape)
        fan_in, fan_out = size / shape[out_axis], size / shape[in_axis]
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
        number = NUMPY_FLOAT[dtype]  # the deviation, too, is computed in the type of the draw
        variance = number(scale / fan)
        if distribution == "uniform":
            draw, deviation = uniform(key, shape, dtype, -1.0), (number(3) * variance) ** 0.5
        elif distribution == "normal":
            draw, deviation = continuous.normal(key, shape, dtype), variance**0.5
        else:
            draw = continuous.truncated_normal(key, -2.0, 2.0, shape, dtype)
            # Standard deviation of the standard normal cut at -2 and 2.
            deviation = variance**0.5 / number(0.87962566103423978)
        return draw * float(deviation)

    return init


def lecun_normal() -> Initializer:
    """Makes the initialiser of Linen's Dense and Conv kernels."""
    return variance_scaling(1.0, "fan_in", "truncated_normal")


def embedding() -> Initializer:
    """Makes the initialiser of Linen's Embed table `[num_embeddings, features]`."""
    return variance_scaling(1.0, "fan_in", "normal", out_axis=0)


def normal(stddev: float = 1e-2) -> Initializer:
    """Makes an initialiser of independent normal draws with the given standard deviation."""

    def init(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        return continuous.normal(key, shape, dtype) * stddev

    return init


def orthogonal(scale: float = 1.0) -> Initializer:
    """Makes the initialiser of the recurrent kernels of Linen's GRU and LSTM cells."""

    def init(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        return matrices.orthogonal(key, rows, (), dtype, columns).reshape(tuple(shape)) * scale

    return init


def zeros(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Initialises with zeros."""
    return torch.zeros(*shape, dtype=float_dtype(dtype), device=key.device)


def ones(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Initialises with ones."""
    return torch.ones(*shape, dtype=float_dtype(dtype), device=key.device)


@torch.no_grad()
def linen_init_(
    module: nn.Module,
    root: Tensor,
    path: Sequence[str] = (),
    param_dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """Gives a torch module, in place, the parameters that its Linen twin starts from.

    Submodules must bear the names that Linen has in its parameter tree. Linear, Conv, Embedding,
    LayerNorm, GroupNorm and BatchNorm with Linen's default initialisers are known; anything else
    with parameters of its own is for the caller, with `param_key`.

    Args:
        module: Module to fill.
        root: Key `[2]` given to the twin's `init`.
        path: Where `module` sits in the twin's parameter tree.
        param_dtype: Linen's `param_dtype`. The numbers are drawn in this type, whatever the type of
            the torch parameters: float32 draws cast to float64 are not float64 draws.

    Returns:
        `module`.

    Raises:
        NotImplementedError: If a submodule is of another kind.
    """
    for name, layer in module.named_modules():
        if not any(True for _ in layer.parameters(recurse=False)):
            continue
        key = param_key(root, (*path, *(name.split(".") if name else ())))
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            out_features, in_features, *window = layer.weight.shape
            kernel = lecun_normal()(key, (*window, in_features, out_features), param_dtype)
            layer.weight.copy_(kernel.permute(-1, -2, *range(len(window))))
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, nn.Embedding):
            layer.weight.copy_(embedding()(key, layer.weight.shape, param_dtype))
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm):
            layer.reset_parameters()
        else:
            raise NotImplementedError(
                f"no Linen initialiser is known for {type(layer).__name__} at {name!r}: "
                "set its parameters with param_key and an initialiser of this file"
            )
    return module
