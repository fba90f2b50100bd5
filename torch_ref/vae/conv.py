"""Strided convolutions down, transposed ones back up, for images `[B, H, W, C]` of any size.

Twin of `jaxprob/vae/conv.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from torch_ref.distributions import Independent
from torch_ref.heads import BernoulliHead
from torch_ref.nn import Conv, ConvTranspose, Flatten, Linear
from torch_ref.vae.model import LatentVariableModel

__all__ = ["ConvDecoder", "ConvEncoder", "ConvVAE"]

Activation = Callable[[Tensor], Tensor]


class ConvEncoder(nn.Module):
    """Convolutions, each of which halves the image."""

    def __init__(self, in_channels: int, channels: Sequence[int], activation: Activation):
        super().__init__()
        self.activation, self.depth = activation, len(channels)
        for i, features in enumerate(channels):
            conv = Conv(in_channels, features, (3, 3), stride=2, padding=1)
            self.add_module(f"conv_{i}", conv)
            in_channels = features
        self.flatten = Flatten()

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, H, W, C]` to features `[B, F]`."""
        for i in range(self.depth):
            x = self.activation(self.get_submodule(f"conv_{i}")(x))
        return self.flatten(x)


class ConvDecoder(nn.Module):
    """A linear layer to small maps, then transposed convolutions that double them."""

    def __init__(
        self,
        latent_dim: int,
        size: tuple[int, int],
        channels: Sequence[int],
        activation: Activation,
    ):
        super().__init__()
        self.activation, self.depth = activation, len(channels)
        for i, features in enumerate(channels):
            out = channels[i - 1] if i else channels[0]
            even = [1 if n % 2 == 0 else 0 for n in size]
            conv = ConvTranspose(features, out, (3, 3), stride=2, padding=1, output_padding=even)
            self.add_module(f"conv_{i}", conv)
            size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        self.small = (channels[-1], *size)
        self.linear = Linear(latent_dim, channels[-1] * size[0] * size[1])

    def forward(self, z: Tensor) -> Tensor:
        """Maps `[*B, L]` to `[*B, H, W, channels[0]]`."""
        h = self.activation(self.linear(z)).unflatten(-1, self.small).movedim(-3, -1)
        for i in range(self.depth - 1, -1, -1):
            h = self.activation(self.get_submodule(f"conv_{i}")(h))
        return h


class ConvVAE(LatentVariableModel):
    """Convolutional encoder and decoder; `likelihood(in_features, channels)` makes the head."""

    def __init__(
        self,
        shape: tuple[int, int, int] = (28, 28, 1),
        channels: Sequence[int] = (32, 64),
        latent_dim: int = 20,
        activation: Activation = torch.relu,
        likelihood: Callable[[int, int], nn.Module] = BernoulliHead,
        prior_model: nn.Module | None = None,
    ):
        decoder = ConvDecoder(latent_dim, shape[:2], channels, activation)
        encoder = ConvEncoder(shape[-1], channels, activation)
        in_features = decoder.linear.out_features
        super().__init__(encoder, decoder, latent_dim, in_features, prior_model)
        self.head = likelihood(channels[0], shape[-1])

    def decode(self, z: Tensor) -> Distribution:
        """Returns p(x | z) over `[H, W, C]`."""
        return Independent(self.head(self.decoder(z)), 2)
