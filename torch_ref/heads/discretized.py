"""Features to levels 0, 1, ..., n - 1: a discretised mixture of logistics.

Twin of `jaxprob/heads/discretized.py`.
"""

import math

import torch
from torch import Tensor, nn

from torch_ref import random
from torch_ref.distributions import Categorical, Independent, Logistic, MixtureSameFamily, Quantized
from torch_ref.heads.links import positive

__all__ = ["DiscretizedLogisticMixtureHead"]


class DiscretizedLogisticMixtureHead(nn.Module):
    """Weights, centres and scales of K logistic components for each target."""

    def __init__(
        self, in_features: int, features: int = 1, num_components: int = 5, levels: int = 256
    ):
        super().__init__()
        self.shape, self.levels = (features, num_components), levels
        size = features * num_components
        self.logits = nn.Linear(in_features, size)
        self.loc = nn.Linear(in_features, size)
        self.scale = nn.Linear(in_features, size)
        self.reset_parameters(random.key(0))

    def reset_parameters(self, key: Tensor) -> None:
        """Draws the weights: small kernels, centres and scales that share the levels evenly."""
        features, count = self.shape
        layers = (self.logits, self.loc, self.scale)
        with torch.no_grad():
            for layer, layer_key in zip(layers, random.split(key, 3), strict=True):
                noise = random.normal(layer_key, tuple(layer.weight.shape), layer.weight.dtype)
                layer.weight.copy_(noise * math.sqrt(0.1 / layer.in_features))
                layer.bias.zero_()
            self.loc.bias.copy_(((2 * torch.arange(count) + 1) / count - 1).repeat(features))
            self.scale.bias.fill_(math.log(math.expm1(1.0 / count)))

    def forward(self, h: Tensor) -> Independent:
        """Maps `[*B, H]` to a distribution over `[*B, D]`."""
        logits, loc, raw = (
            layer(h).unflatten(-1, self.shape) for layer in (self.logits, self.loc, self.scale)
        )
        half = (self.levels - 1) / 2
        nearest = Logistic(half + half * loc - 0.5, half * positive(raw))
        components = Quantized(nearest, 0, self.levels - 1)
        return Independent(MixtureSameFamily(Categorical(logits=logits), components), 1)
