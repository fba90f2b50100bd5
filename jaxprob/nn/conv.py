"""Convolutions over one to three axes, their weights in PyTorch's layout.

    Conv           y[o, t] = b[o] + sum_{i,j} W[o, i, j] x[i, s t + d j - p]
    ConvTranspose  y[o, s t + d j - p] += W[i, o, j] x[i, t]   for all t, i, j; then + b[o]

with stride s, dilation d and padding p. Activations are channels-last, `[*B, spatial..., C]`, as
everywhere in Flax; only the weights are laid out as PyTorch's are. Padding is always an explicit
number of zeros on both sides: Flax's and XLA's "SAME" is another alignment as soon as the stride
is 2.

Twin: `torch_ref/nn/conv.py`.
"""

import dataclasses
import math
import operator
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Float

from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import fan_in_uniform, param_dtype
from jaxprob.operations.convolution import conv_general_dilated
from jaxprob.requirements import by_name, require_count
from jaxprob.types import AnyArray, Array

__all__ = ["Conv", "ConvTranspose"]

LEAST = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
"""The smallest value of each argument of a transposed convolution that may differ by axis."""


class Conv(nn.Module):
    """`torch.nn.Conv1d`, `Conv2d` or `Conv3d`, as many axes as `kernel_size` has.

    Parameters: `weight` `[out, in / groups, *kernel_size]`, `bias` `[out]`. Arguments given as one
    number hold for every axis.

    Attributes:
      features: Output channels.
      kernel_size: Size of the window on each axis.
      stride: Step of the window.
      padding: Zeros added on both sides, or "same" for an output of the input's size (stride 1; an
        odd total puts the extra zero behind), or "valid" for none.
      dilation: Distance between the taps of the window.
      groups: Number of blocks into which input and output channels are divided.
      bias: Whether there is a bias.
    """

    features: int
    kernel_size: Sequence[int]
    stride: int | Sequence[int] = 1
    padding: int | str | Sequence[int] = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[AnyArray, "... I"]) -> Float[Array, "... O"]:
        """Maps `[*B, spatial..., in]` to `[*B, spatial..., features]`.

        Raises:
          ValueError: Too few axes, channels that the groups do not divide, arguments of another
            length than `kernel_size`, or a window larger than the padded input.
        """
        kernel = _kernel("Conv", self.kernel_size)
        _check_channels("Conv", x, kernel, self.features, self.groups)
        stride = _per_axis("Conv", "stride", self.stride, kernel)
        dilation = _per_axis("Conv", "dilation", self.dilation, kernel)
        pads = self._pads(kernel, stride, dilation)
        for axis, size in enumerate(_spatial(x, kernel)):
            window = dilation[axis] * (kernel[axis] - 1) + 1
            if size + sum(pads[axis]) < window:
                raise ValueError(
                    f"Conv: on spatial axis {axis} the window spans {window} points, but the "
                    f"padded input has {size + sum(pads[axis])}. Add padding or use a smaller "
                    "kernel_size."
                )
        weight, bias = _parameters(
            self, x, (self.features, x.shape[-1] // self.groups, *kernel), self.features
        )
        return _convolve(x, weight, bias, stride, pads, (1,) * len(kernel), dilation, self.groups)

    def _pads(self, kernel, stride, dilation) -> list[tuple[int, int]]:
        if self.padding == "valid":
            return [(0, 0)] * len(kernel)
        if self.padding == "same":
            if any(s != 1 for s in stride):
                raise ValueError(
                    f"Conv: padding='same' needs stride 1; got stride {stride}. Give the padding "
                    "as numbers."
                )
            totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        if isinstance(self.padding, str):
            raise ValueError(
                f"Conv: padding must be a number, one number an axis, 'same' or 'valid'; got "
                f"{self.padding!r}."
            )
        return [(p, p) for p in _per_axis("Conv", "padding", self.padding, kernel, least=0)]


@by_name("torch's order of them is another.")
class ConvTranspose(nn.Module):
    """`torch.nn.ConvTranspose1d`, `2d` or `3d`: the transpose of the linear map that `Conv` is.

    Parameters: `weight` `[in, out / groups, *kernel_size]`, `bias` `[out]`. An axis of size T
    becomes one of size s (T - 1) + d (k - 1) + 1 - 2 p + output_padding.

    Attributes:
      features: Output channels.
      kernel_size: Size of the window on each axis.
      stride: Step of the window in the output.
      padding: Points removed on both sides of the output.
      output_padding: Points added behind: several sizes have the same convolution, this picks one.
      dilation: Distance between the taps of the window.
      groups: Number of blocks into which input and output channels are divided.
      bias: Whether there is a bias.
    """

    features: int
    kernel_size: Sequence[int]
    stride: int | Sequence[int] = 1
    padding: int | Sequence[int] = 0
    output_padding: int | Sequence[int] = 0
    _: dataclasses.KW_ONLY
    dilation: int | Sequence[int] = 1
    groups: int = 1
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[AnyArray, "... I"]) -> Float[Array, "... O"]:
        """Maps `[*B, spatial..., in]` to `[*B, spatial..., features]`.

        Raises:
          ValueError: Too few axes, channels that the groups do not divide, arguments of another
            length than `kernel_size`, an output padding that is not smaller than stride or
            dilation, or an output without points.
        """
        kernel = _kernel("ConvTranspose", self.kernel_size)
        _check_channels("ConvTranspose", x, kernel, self.features, self.groups)
        arguments = {
            name: _per_axis("ConvTranspose", name, getattr(self, name), kernel, least)
            for name, least in LEAST.items()
        }
        pads = []
        for axis, (size, k, s, p, extra, d) in enumerate(
            zip(_spatial(x, kernel), kernel, *arguments.values(), strict=True)
        ):
            if not 0 <= extra < max(s, d):
                raise ValueError(
                    f"ConvTranspose: output_padding must be smaller than stride or dilation; on "
                    f"spatial axis {axis} it is {extra}, with stride {s} and dilation {d}."
                )
            if s * (size - 1) + d * (k - 1) + 1 - 2 * p + extra < 1:
                raise ValueError(
                    f"ConvTranspose: padding {p} removes all of spatial axis {axis}, which has "
                    f"{size} points. Use less padding."
                )
            pads.append((d * (k - 1) - p, d * (k - 1) - p + extra))
        groups, in_features = self.groups, x.shape[-1]
        weight, bias = _parameters(
            self, x, (in_features, self.features // groups, *kernel), self.features
        )
        # The transpose of a convolution is one with the taps reversed, over the input with
        # `stride - 1` zeros between its points; in and out change places inside each group.
        blocks = weight.reshape(groups, in_features // groups, -1, *kernel).swapaxes(1, 2)
        weight = blocks.reshape(self.features, -1, *kernel)
        weight = lax.rev(weight, range(2, weight.ndim))
        stride, dilation = arguments["stride"], arguments["dilation"]
        return _convolve(x, weight, bias, (1,) * len(kernel), pads, stride, dilation, groups)


def _parameters(module, x, shape: tuple[int, ...], features: int) -> tuple[Array, AnyArray | None]:
    """Weight and bias; for PyTorch the fan-in is all of a weight's shape but its first axis."""
    init, dtype = fan_in_uniform(math.prod(shape[1:])), param_dtype(x)
    weight = jnp.asarray(module.param("weight", init, shape, dtype))
    return weight, module.param("bias", init, (features,), dtype) if module.bias else None


def _convolve(x, weight, bias, stride, pads, input_dilation, dilation, groups) -> Array:
    """Convolves `[*B, spatial..., C]` with a weight `[out, in / groups, *k]`."""
    x, weight, bias = promote_dtype(x, weight, bias)
    axes = weight.ndim - 2
    spatial = "DHW"[-axes:]
    activations = f"N{spatial}C"
    batch = x.shape[: x.ndim - axes - 1]
    y = conv_general_dilated(
        x.reshape(-1, *x.shape[x.ndim - axes - 1 :]),
        weight,
        stride,
        pads,
        input_dilation,
        dilation,
        (activations, f"OI{spatial}", activations),
        groups,
    )
    y = y if bias is None else y + align(bias, y.ndim)
    return y.reshape(*batch, *y.shape[1:])


def _spatial(x, kernel: tuple[int, ...]) -> tuple[int, ...]:
    return x.shape[x.ndim - 1 - len(kernel) : -1]


def _kernel(owner: str, kernel_size: Sequence[int]) -> tuple[int, ...]:
    """The sizes of the window as Python's integers."""
    if np.ndim(kernel_size) != 1:
        raise ValueError(
            f"{owner}: kernel_size must have one size an axis, as (3, 3); got {kernel_size!r}. "
            "Input channels are those of x: torch's Conv2d(1, 8, 3) is Conv(8, (3, 3))."
        )
    return _whole(owner, "kernel_size", tuple(kernel_size), least=1)


def _per_axis(
    owner: str, name: str, value: int | Sequence[int], kernel: tuple[int, ...], least: int = 1
) -> tuple[int, ...]:
    """One number for each axis of the kernel."""
    values = (value,) * len(kernel) if np.ndim(value) == 0 else tuple(value)
    values = _whole(owner, name, values, least)
    if len(values) != len(kernel):
        raise ValueError(
            f"{owner}: {name} must be one number or one for each of the {len(kernel)} axes of "
            f"kernel_size {kernel}; got {values}."
        )
    return values


def _whole(owner: str, name: str, values: tuple, least: int) -> tuple[int, ...]:
    for value in values:
        require_count(owner, least=least, **{name: value})
    return tuple(operator.index(value) for value in values)


def _check_channels(owner: str, x, kernel: tuple[int, ...], features: int, groups: int) -> None:
    if not 1 <= len(kernel) <= 3:
        raise ValueError(
            f"{owner}: kernel_size must have one to three axes, as (3, 3); got {kernel}."
        )
    if x.ndim < len(kernel) + 1:
        raise ValueError(
            f"{owner}: x must be [*B, spatial..., C] with {len(kernel)} spatial axes, as many as "
            f"kernel_size {kernel} has; got shape {x.shape}."
        )
    require_count(owner, features=features, groups=groups)
    if 0 in _spatial(x, kernel):
        raise ValueError(
            f"{owner}: x must have at least one point on each spatial axis; got shape {x.shape}."
        )
    if x.shape[-1] % groups or features % groups:
        raise ValueError(
            f"{owner}: groups must divide the input channels and features; got groups {groups}, "
            f"{x.shape[-1]} channels (the last axis of x) and features {features}."
        )
