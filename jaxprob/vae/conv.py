"""A VAE for images of any size: strided convolutions down, transposed ones back up.

    down  n -> ceil(n / 2)      kernel 3, stride 2, padding 1
    up    ceil(n / 2) -> n      the transpose of the same, output_padding 1 where n is even

Images are `[B, H, W, C]`. The head of p(x | z) is a layer on the channels of each pixel.

Twin: `torch_ref/vae/conv.py`. Source: Radford, Metz & Chintala, "Unsupervised representation
learning with deep convolutional generative adversarial networks" (2016), section 3.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.distributions import Independent
from jaxprob.heads import BernoulliHead
from jaxprob.nn import Conv, ConvTranspose, Flatten, Linear
from jaxprob.types import AnyArray, Array
from jaxprob.vae.model import LatentVariableModel

__all__ = ["ConvDecoder", "ConvEncoder", "ConvVAE"]


class ConvEncoder(nn.Module):
    """Convolutions, each of which halves the image.

    Attributes:
      channels: Output channels of each convolution.
      activation: Elementwise function after each.
    """

    channels: Sequence[int] = (32, 64)
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Shaped[AnyArray, "B H W C"]) -> Float[Array, "B F"]:
        """Maps images to features, the channel slowest."""
        for i, features in enumerate(self.channels):
            x = self.activation(Conv(features, (3, 3), 2, 1, name=f"conv_{i}")(x))
        return Flatten()(x)


class ConvDecoder(nn.Module):
    """A linear layer to small maps, then transposed convolutions that double them.

    Attributes:
      size: Height and width of the images.
      channels: Those of the encoder, which are gone through backwards.
      activation: Elementwise function after each layer.
    """

    size: tuple[int, int]
    channels: Sequence[int] = (32, 64)
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, z: Float[AnyArray, "*B L"]) -> Float[Array, "*B H W F"]:
        """Maps latents to maps of the images' size, `channels[0]` of them."""
        sizes = halved(self.size, len(self.channels))
        small = (self.channels[-1], *sizes[-1])
        h = self.activation(Linear(math.prod(small), name="linear")(z))
        h = jnp.moveaxis(h.reshape(*z.shape[:-1], *small), -3, -1)
        for i in reversed(range(len(self.channels))):
            extra = tuple(1 - n % 2 for n in sizes[i])
            features = self.channels[max(i - 1, 0)]
            up = ConvTranspose(features, (3, 3), 2, 1, extra, name=f"conv_{i}")
            h = self.activation(up(h))
        return h


class ConvVAE(LatentVariableModel):
    """Convolutional encoder and decoder; a Bernoulli likelihood for each pixel and channel.

    Attributes:
      shape: Height, width and channels of an image.
      channels: Output channels of each convolution of the encoder.
      latent_dim: Number of latents L.
      activation: Elementwise function between the layers.
      likelihood: Makes the head of p(x | z) from C: a class of `jaxprob.heads`, or
        `partial(heads.NormalHead, homoscedastic=True)`.
      prior_model: `MixturePrior`, `VampPrior` or another module that returns p(z); None for
        independent standard normals.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    channels: Sequence[int] = (32, 64)
    latent_dim: int = 20
    activation: Callable[[Array], Array] = nn.relu
    likelihood: Callable[[int], nn.Module] = BernoulliHead
    prior_model: nn.Module | None = None

    def setup(self):
        """Makes the layers.

        Raises:
          ValueError: No convolution.
        """
        if not self.channels:
            raise ValueError(
                "ConvVAE: channels must name at least one convolution, as (32, 64); got none."
            )
        super().setup()
        self.encoder = ConvEncoder(self.channels, self.activation)
        self.decoder = ConvDecoder(self.shape[:2], self.channels, self.activation)
        self.head = self.likelihood(self.shape[-1])

    def encode(self, x: Shaped[AnyArray, "B *D"], train: bool = False) -> Any:
        """Returns q(z | x) of images `[B, H, W, C]`.

        Raises:
          ValueError: Images of another size.
        """
        if x.ndim != 4 or x.shape[1:] != tuple(self.shape):
            raise ValueError(
                f"ConvVAE: x has shape {x.shape}; expected [B, H, W, C] with [H, W, C] = "
                f"{tuple(self.shape)}. Write x[..., None] for images without channels, and set "
                "shape to that of an image."
            )
        return super().encode(x, train)

    def decode(self, z: Float[AnyArray, "*B L"], train: bool = False) -> Any:
        """Returns p(x | z), event shape `(H, W, C)`."""
        return Independent(self.head(super().decode(z, train)), 2)


def halved(size: Sequence[int], times: int) -> list[tuple[int, int]]:
    """Returns height and width before the first convolution and after each."""
    height, width = size
    sizes = [(height, width)]
    for _ in range(times):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes
