"""Variational dense and convolutional layers.

Twin of `jaxprob/bayes/dense_variational.py`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import torch_ref.random as jrandom
from torch_ref.bayes.variational_layers import Prior, VariationalLayer
from torch_ref.distributions import Independent, Normal
from torch_ref.heads.normal import SCALE_FLOOR, softplus
from torch_ref.objectives import GaussianPrior

__all__ = ["BayesianMLP", "ConvVariational", "DenseVariational"]

STANDARD_PRIOR = GaussianPrior()


class DenseVariational(VariationalLayer):
    """A dense layer with a Gaussian posterior over (bias, kernel), the kernel input-major.

    Args:
      in_features: Size of the input D.
      features: Size of the output F.
      covariance: "full" or "diagonal".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      estimator: "weights", "local" or "flipout".
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        covariance: str = "full",
        prior: Prior = STANDARD_PRIOR,
        init_scale: float = 0.05,
        estimator: str = "weights",
    ):
        start = _start(in_features, features)
        super().__init__(start, covariance, prior, init_scale, estimator)
        self.features = features

    def linear(self, x: Tensor, weights: Tensor) -> Tensor:
        """Applies the layer with given weights `[P]`."""
        bias, kernel = weights.split([self.features, weights.shape[0] - self.features])
        return x @ kernel.reshape(-1, self.features) + bias


class ConvVariational(VariationalLayer):
    """A convolution over one or two axes of `[B, spatial..., C]`, its kernel `[*window, C, F]`.

    Args:
      in_features: Input channels C.
      features: Output channels F.
      kernel_size: Size of the window on each axis.
      stride: Step of the window.
      padding: A number, "same" or "valid".
      covariance: "diagonal" or "full".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
      estimator: "weights", "local" or "flipout".
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: Sequence[int],
        stride: int = 1,
        padding: int | str = "valid",
        covariance: str = "diagonal",
        prior: Prior = STANDARD_PRIOR,
        init_scale: float = 0.05,
        estimator: str = "weights",
    ):
        fan_in = math.prod(kernel_size) * in_features
        super().__init__(_start(fan_in, features), covariance, prior, init_scale, estimator)
        self.features, self.stride, self.padding = features, stride, padding
        self.shape = (*kernel_size, in_features, features)

    def linear(self, x: Tensor, weights: Tensor) -> Tensor:
        """Applies the layer with given weights `[P]`."""
        bias, kernel = weights.split([self.features, weights.shape[0] - self.features])
        convolve = {1: nn.functional.conv1d, 2: nn.functional.conv2d}[len(self.shape) - 2]
        # torch wants the channels before the window
        kernel = kernel.reshape(self.shape).movedim((-1, -2), (0, 1))
        y = convolve(x.movedim(-1, 1), kernel, bias, self.stride, self.padding)
        return y.movedim(1, -1)


def _start(fan_in: int, features: int) -> Tensor:
    loc = torch.zeros((fan_in + 1) * features)
    loc[features:] = torch.randn(fan_in * features) / fan_in**0.5
    return loc


class BayesianMLP(nn.Module):
    """Variational dense layers to the mean and scale of a normal likelihood."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (8,),
        features: int = 1,
        activation: Callable[[Tensor], Tensor] = torch.sigmoid,
        covariance: str = "full",
        prior: Prior = STANDARD_PRIOR,
        init_scale: float = 0.05,
        estimator: str = "weights",
    ):
        super().__init__()
        self.activation = activation
        for i, width in enumerate((*hidden, 2 * features)):
            layer = DenseVariational(in_features, width, covariance, prior, init_scale, estimator)
            self.add_module(f"dense_{i}", layer)
            in_features = width

    def forward(self, x: Tensor, key: Tensor | None = None) -> Independent:
        """Maps `[B, D_in]` to a distribution over `[B, D]` under one draw of all weights."""
        layers = list(self.children())
        keys = [None] * len(layers) if key is None else jrandom.split(key, len(layers))
        for i, (layer, layer_key) in enumerate(zip(layers, keys, strict=True)):
            x = layer(x, layer_key)
            if i < len(layers) - 1:
                x = self.activation(x)
        loc, raw = x.chunk(2, dim=-1)
        return Independent(Normal(loc, softplus(raw) + SCALE_FLOOR, validate_args=False), 1)
