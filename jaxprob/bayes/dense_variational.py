"""Variational dense and convolutional layers, for those who come from TFP's layers.

    y = x W + b,   (b, W) ~ N(loc, L L^T) over all P = (D + 1) F weights of the layer together

Each layer holds its own posterior. Called with a key it is random; called without, it uses `loc`. A
posterior draw is therefore the same params tree with `loc` replaced by the drawn weights, and
`bayes.predict` takes it as it takes any other. How a layer is random is its `estimator`, see
`variational_layers.py`.

Twin: `torch_ref/bayes/dense_variational.py`. Source: Blundell et al., "Weight Uncertainty in Neural
Networks" (2015), section 3.2.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.bayes.variational_layers import Prior, check_layer, layer_block, noisy_map
from jaxprob.distributions import Distribution, Independent, Normal
from jaxprob.heads.normal import SCALE_FLOOR
from jaxprob.objectives import GaussianPrior
from jaxprob.types import Array, Key

__all__ = ["BayesianMLP", "ConvVariational", "DenseVariational"]


class DenseVariational(nn.Module):
    """A dense layer with a Gaussian posterior over its bias and kernel.

    With P = (D + 1) F weights, "full" has P (P + 3) / 2 parameters and "diagonal" has 2 P. The
    KL to the prior is sown into the collection "kl".

    Attributes:
      features: Output size F.
      covariance: "full" or "diagonal".
      prior: Prior over the weights; its trainable parts become params of the layer.
      init_scale: Standard deviation of each weight at the start.
      estimator: "weights", or with a diagonal covariance "local" or "flipout".
    """

    features: int
    covariance: str = "full"
    prior: Prior = GaussianPrior()
    init_scale: float = 0.05
    estimator: str = "weights"

    @nn.compact
    def __call__(self, x: Array, key: Key | None = None) -> Array:
        """Maps `[B, ..., D]` to `[B, ..., F]`, and one row `[D]` to `[F]`.

        `key` makes it random, None takes `loc` for the weights.
        """
        check_layer("DenseVariational", self.covariance, self.estimator)
        if x.ndim == 0:
            raise ValueError("DenseVariational: x is a single number; expected [B, D] or [D].")
        fan_in = x.shape[-1]

        def linear(x: Array, weights: Array) -> Array:
            bias, kernel = weights[: self.features], weights[self.features :]
            y = x @ kernel.reshape(fan_in, self.features)
            return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))

        def init_loc(key: Key) -> Array:
            return _init_loc(key, (fan_in, self.features))

        return _apply(self, linear, init_loc, x, key)


class ConvVariational(nn.Module):
    """A convolution with a Gaussian posterior over its bias and kernel, as `DenseVariational`.

    Attributes:
      features: Output channels F.
      kernel_size: Size of the window on each axis.
      stride: Step of the window on every axis.
      padding: Zeros added on both sides of every axis, or "same" (stride 1) or "valid".
      covariance: "diagonal" or "full".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      estimator: "weights", "local" or "flipout". The local one draws the activation of each
        position on its own, as is usual, although positions share weights: the expected loss is
        then that of weights drawn anew for each position (Kingma et al. 2015 treat dense layers
        only). Flipout and "weights" are exact.
    """

    features: int
    kernel_size: Sequence[int]
    stride: int = 1
    padding: int | str = "valid"
    covariance: str = "diagonal"
    prior: Prior = GaussianPrior()
    init_scale: float = 0.05
    estimator: str = "weights"

    @nn.compact
    def __call__(self, x: Array, key: Key | None = None) -> Array:
        """Maps `[B, spatial..., C]` to `[B, spatial..., F]`.

        Raises:
          ValueError: Another number of axes than the kernel has, or unknown options.
        """
        check_layer("ConvVariational", self.covariance, self.estimator)
        window = tuple(self.kernel_size)
        if x.ndim != len(window) + 2:
            raise ValueError(
                f"ConvVariational: x has shape {x.shape}; expected [B, spatial..., C] with "
                f"{len(window)} spatial axes, as kernel_size {window} has."
            )
        shape = (*window, x.shape[-1], self.features)
        letters = "HWDT"[: len(window)]
        layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        pads = self._pads(window)

        def linear(x: Array, weights: Array) -> Array:
            kernel = weights[self.features :].reshape(shape)
            y = jax.lax.conv_general_dilated(
                x, kernel, (self.stride,) * len(window), pads, dimension_numbers=layout
            )
            return y + weights[: self.features].reshape((1,) * (y.ndim - 1) + (-1,))

        return _apply(self, linear, lambda key: _init_loc(key, shape), x, key)

    def _pads(self, window: tuple[int, ...]) -> list[tuple[int, int]]:
        if self.padding == "valid":
            return [(0, 0)] * len(window)
        if self.padding == "same" and self.stride == 1:
            return [((k - 1) // 2, k - 1 - (k - 1) // 2) for k in window]
        if isinstance(self.padding, int) and self.padding >= 0:
            return [(self.padding, self.padding)] * len(window)
        raise ValueError(
            f"ConvVariational: padding must be a number >= 0, 'valid', or 'same' with stride 1; "
            f"got {self.padding!r} with stride {self.stride}."
        )


def _apply(
    module: DenseVariational | ConvVariational,
    linear: Callable[[Array, Array], Array],
    init_loc: Callable[[Key], Array],
    x: Array,
    key: Key | None,
) -> Array:
    if key is None and not module.is_initializing():
        return linear(x, jnp.asarray(module.param("loc", init_loc)))
    block = layer_block(module, init_loc, module.covariance, module.prior, module.init_scale)
    if key is None:
        return linear(x, block["loc"])
    return noisy_map(linear, block, x, key, module.estimator)


def _init_loc(key: Key, shape: tuple[int, ...]) -> Array:
    """Bias 0 and a LeCun-normal kernel, as one vector."""
    kernel = nn.initializers.lecun_normal()(key, shape)
    return jnp.concatenate([jnp.zeros(shape[-1], kernel.dtype), kernel.reshape(-1)])


class BayesianMLP(nn.Module):
    """Variational dense layers to the mean and scale of a normal likelihood.

    Attributes:
      hidden: Width of each hidden layer.
      features: Number of targets D.
      activation: Elementwise function between the layers.
      covariance: "full" (within each layer) or "diagonal".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      estimator: "weights", "local" or "flipout", see `DenseVariational`.
    """

    hidden: Sequence[int] = (8,)
    features: int = 1
    activation: Callable[[Array], Array] = nn.sigmoid
    covariance: str = "full"
    prior: Prior = GaussianPrior()
    init_scale: float = 0.05
    estimator: str = "weights"

    @nn.compact
    def __call__(self, x: Array, key: Key | None = None) -> Distribution:
        """Maps `[B, D_in]` to a distribution over `[B, D]` under one draw of all weights."""
        widths = (*self.hidden, 2 * self.features)
        keys = [None] * len(widths) if key is None else list(jax.random.split(key, len(widths)))
        for i, (width, layer_key) in enumerate(zip(widths, keys, strict=True)):
            layer = DenseVariational(
                width,
                self.covariance,
                self.prior,
                self.init_scale,
                self.estimator,
                name=f"dense_{i}",
            )
            x = layer(x, layer_key)
            if i < len(self.hidden):
                x = self.activation(x)
        loc, raw = jnp.split(x, 2, axis=-1)
        return Independent(Normal(loc, jax.nn.softplus(raw) + SCALE_FLOOR), 1)
