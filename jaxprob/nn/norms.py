"""Normalisation: y = (x - mean) / sqrt(var + eps) * weight + bias.

    layer    mean and variance of each position, over its channels
    group    of each row, over the positions and over the channels of one group
    batch    of each channel, over all rows and positions
    RMS      y = x / sqrt(mean(x^2) + eps) * weight

The variance is the mean of (x - mean)^2, in two passes: E[x^2] - E[x]^2 loses every digit where the
mean is large against the spread. Statistics of bfloat16 and float16 inputs are kept in float32.
Defaults are PyTorch's (eps 1e-5, where Linen has 1e-6).

Twin: `torch_ref/nn/norms.py`. Sources: Ba et al., "Layer normalization" (2016); Wu & He, "Group
normalization" (2018); Ioffe & Szegedy, "Batch normalization" (2015); Zhang & Sennrich, "Root mean
square layer normalization" (2019).
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype
from jaxtyping import Float

from jaxprob.distributions.validation import align
from jaxprob.nn.initializers import param_dtype
from jaxprob.requirements import by_name, require_count, require_in, require_non_negative
from jaxprob.types import AnyArray, Array

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"]


@by_name("Sizes are those of x: torch's LayerNorm(64) is LayerNorm().")
class LayerNorm(nn.Module):
    """`torch.nn.LayerNorm` over the last axis: `weight` and `bias` `[C]`.

    Attributes:
      eps: Added to the variance.
      elementwise_affine: Whether there are a weight and a bias.
      bias: Whether there is a bias beside the weight.
    """

    _: dataclasses.KW_ONLY
    eps: float = 1e-5
    elementwise_affine: bool = True
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B C"]) -> Float[Array, "*B C"]:
        """Normalises each `[C]` of `[*B, C]`."""
        require_non_negative("LayerNorm", eps=self.eps)
        weight, bias = None, None
        if self.elementwise_affine:
            weight, bias = _affine(self, x, self.bias)
        return _scaled(_standardised(x, (-1,), self.eps), x, weight, bias)


@by_name("Channels are those of x: torch's GroupNorm(4, 64) is GroupNorm(4).")
class GroupNorm(nn.Module):
    """`torch.nn.GroupNorm`: `weight` and `bias` `[C]`.

    Attributes:
      num_groups: Number of blocks of neighbouring channels.
      eps: Added to the variance.
    """

    num_groups: int
    _: dataclasses.KW_ONLY
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[AnyArray, "B *spatial C"]) -> Float[Array, "B *spatial C"]:
        """Normalises each row and group of `[B, spatial..., C]`.

        Raises:
          ValueError: Channels that `num_groups` does not divide.
        """
        require_count("GroupNorm", num_groups=self.num_groups)
        require_non_negative("GroupNorm", eps=self.eps)
        channels = x.shape[-1]
        if channels % self.num_groups:
            raise ValueError(
                f"GroupNorm: num_groups must divide the channels; got num_groups {self.num_groups} "
                f"and {channels} channels (the last axis of x)."
            )
        weight, bias = _affine(self, x, True)
        grouped = x.reshape(*x.shape[:-1], self.num_groups, channels // self.num_groups)
        y = _standardised(grouped, (*range(1, x.ndim - 1), -1), self.eps)
        return _scaled(y.reshape(x.shape), x, weight, bias)


@by_name("Sizes are those of x: torch's RMSNorm(64) is RMSNorm().")
class RMSNorm(nn.Module):
    """`torch.nn.RMSNorm` over the last axis: `weight` `[C]`.

    Attributes:
      eps: Added to the mean square; None for the machine epsilon of the dtype in which it is
        computed, float32 for narrower inputs.
    """

    _: dataclasses.KW_ONLY
    eps: float | None = None

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B C"]) -> Float[Array, "*B C"]:
        """Scales each `[C]` of `[*B, C]` to root mean square 1."""
        require_non_negative("RMSNorm", eps=self.eps)
        weight, _ = _affine(self, x, False)
        wide = _wide(x)
        eps = float(jnp.finfo(wide.dtype).eps) if self.eps is None else self.eps
        mean_square = jnp.mean(wide**2, axis=-1, keepdims=True)
        return _scaled(wide / jnp.sqrt(mean_square + eps), x, weight, None)


@by_name("Channels are those of x: torch's BatchNorm2d(64) is BatchNorm().")
class BatchNorm(nn.Module):
    """`torch.nn.BatchNorm1d`, `2d` or `3d`: `weight` and `bias` `[C]`.

    The collection "batch_stats" holds `running_mean` and `running_var` `[C]`, PyTorch's buffers:

        running = (1 - momentum) running + momentum batch

    with the unbiased variance of the batch (n - 1 below), while the biased one normalises it. To
    train, `apply` with `mutable=["batch_stats"]`. No gradient flows through the running statistics.

    Attributes:
      momentum: Weight of the newest batch, in [0, 1]: PyTorch's sense, 1 - momentum of Linen's.
        (PyTorch's None, the average of all batches, has no counterpart.)
      eps: Added to the variance.
    """

    _: dataclasses.KW_ONLY
    momentum: float = 0.1
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[AnyArray, "*B C"], train: bool) -> Float[Array, "*B C"]:
        """Normalises `[*B, spatial..., C]`.

        Args:
          x: Activations.
          train: True to normalise by the batch and to update the running statistics, False to
            normalise by the running statistics.

        Returns:
          The same shape.

        Raises:
          ValueError: Training on one value a channel, which has no variance; or a momentum that
            is no number in [0, 1].
        """
        if self.momentum is None:
            raise ValueError(
                "BatchNorm: momentum must lie in [0, 1]; got None. torch's average of all batches "
                "has no counterpart here: give a weight of the newest batch, such as 0.1."
            )
        require_in("BatchNorm", "[0, 1]", momentum=self.momentum)
        require_non_negative("BatchNorm", eps=self.eps)
        channels, dtype = x.shape[-1:], param_dtype(x)
        weight, bias = _affine(self, x, True)
        running_mean = self.variable("batch_stats", "running_mean", jnp.zeros, channels, dtype)
        running_var = self.variable("batch_stats", "running_var", jnp.ones, channels, dtype)
        if not train:
            mean, variance = (
                align(jnp.asarray(v.value), x.ndim) for v in (running_mean, running_var)
            )
            return _scaled((_wide(x) - mean) / jnp.sqrt(variance + self.eps), x, weight, bias)
        count = x.size // x.shape[-1]
        if count < 2:
            raise ValueError(
                f"BatchNorm: train=True needs more than one value a channel; got shape {x.shape}. "
                "Use a larger batch, or train=False."
            )
        mean, variance = _moments(x, tuple(range(x.ndim - 1)))
        if not self.is_initializing():
            unbiased = variance * (count / (count - 1))
            for running, batch in ((running_mean, mean), (running_var, unbiased)):
                batch = jax.lax.stop_gradient(batch).reshape(channels).astype(running.value.dtype)
                running.value = (1 - self.momentum) * running.value + self.momentum * batch
        return _scaled((_wide(x) - mean) / jnp.sqrt(variance + self.eps), x, weight, bias)


def _affine(module: nn.Module, x, with_bias: bool) -> tuple[Array, Array | None]:
    """Weight of ones and bias of zeros, `[C]` each."""
    shape, dtype = x.shape[-1:], param_dtype(x)
    weight = jnp.asarray(module.param("weight", nn.initializers.ones, shape, dtype))
    if not with_bias:
        return weight, None
    return weight, jnp.asarray(module.param("bias", nn.initializers.zeros, shape, dtype))


def _wide(x) -> Array:
    """The input in at least float32."""
    return jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))


def _moments(x, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance, their axes kept."""
    wide = _wide(x)
    mean = jnp.mean(wide, axes, keepdims=True)
    return mean, jnp.mean((wide - mean) ** 2, axes, keepdims=True)


def _standardised(x, axes: tuple[int, ...], eps: float) -> Array:
    mean, variance = _moments(x, axes)
    return (_wide(x) - mean) / jnp.sqrt(variance + eps)


def _scaled(y, x, weight, bias) -> Array:
    """Applies the affine part; the dtype is that of the input `x` and the parameters together."""
    if weight is not None:
        y = y * align(weight, y.ndim)
    if bias is not None:
        y = y + align(bias, y.ndim)
    return y.astype(canonicalize_dtype(x, weight, bias))
