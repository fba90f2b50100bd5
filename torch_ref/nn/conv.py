"""Convolutions over one to three axes, on channels-last activations.

Twin of `jaxprob/nn/conv.py`.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

__all__ = ["Conv", "ConvTranspose"]


def Conv(
    in_features: int,
    features: int,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Makes a `torch.nn.Conv1d`, `2d` or `3d` that takes and gives `[*B, spatial..., C]`.

    Arguments after `in_features` (the channels C) are those of `jaxprob.nn.Conv`, in torch's sense.
    """
    layer = _CONVOLUTIONS[len(kernel_size) - 1]
    return layer(in_features, features, kernel_size, stride, padding, dilation, groups, bias)


def ConvTranspose(
    in_features: int,
    features: int,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    *,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """Makes a `torch.nn.ConvTranspose1d`, `2d` or `3d` on `[*B, spatial..., C]`.

    Arguments after `in_features` (the channels C) are those of `jaxprob.nn.ConvTranspose`.
    """
    layer = _TRANSPOSES[len(kernel_size) - 1]
    return layer(
        in_features,
        features,
        kernel_size,
        stride,
        padding,
        output_padding,
        groups=groups,
        bias=bias,
        dilation=dilation,
    )


class _ChannelsLast:
    """Moves the channels to where torch has them, and back."""

    def forward(self, x: Tensor) -> Tensor:
        axes = len(self.kernel_size)
        batch = x.shape[: -axes - 1]
        rows = x.reshape(-1, *x.shape[-axes - 1 :])
        y = super().forward(rows.movedim(-1, 1)).movedim(1, -1)
        return y.reshape(*batch, *y.shape[1:])


class _Conv1d(_ChannelsLast, nn.Conv1d):
    pass


class _Conv2d(_ChannelsLast, nn.Conv2d):
    pass


class _Conv3d(_ChannelsLast, nn.Conv3d):
    pass


class _ConvTranspose1d(_ChannelsLast, nn.ConvTranspose1d):
    pass


class _ConvTranspose2d(_ChannelsLast, nn.ConvTranspose2d):
    pass


class _ConvTranspose3d(_ChannelsLast, nn.ConvTranspose3d):
    pass


_Layer = Callable[..., nn.Module]
_CONVOLUTIONS: tuple[_Layer, ...] = (_Conv1d, _Conv2d, _Conv3d)
_TRANSPOSES: tuple[_Layer, ...] = (_ConvTranspose1d, _ConvTranspose2d, _ConvTranspose3d)
