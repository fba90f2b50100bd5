"""Encoder and decoder of linear layers.

Twin of `jaxprob/vae/dense.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from torch_ref.heads import BernoulliHead
from torch_ref.nn import MLP
from torch_ref.vae.model import LatentVariableModel

__all__ = ["DenseVAE"]


class DenseVAE(LatentVariableModel):
    """The minimal VAE; `likelihood(in_features, features)` makes its head."""

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (256,),
        latent_dim: int = 20,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        likelihood: Callable[[int, int], nn.Module] = BernoulliHead,
        prior_model: nn.Module | None = None,
    ):
        encoder = MLP(features, hidden, activation)
        decoder = MLP(latent_dim, hidden[::-1], activation)
        super().__init__(encoder, decoder, latent_dim, encoder.out_features, prior_model)
        self.head = likelihood(decoder.out_features, features)

    def decode(self, z: Tensor) -> Distribution:
        """Returns p(x | z) over `[D]`."""
        return self.head(self.decoder(z))
