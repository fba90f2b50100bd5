"""Models with a latent variable for each row, and the one that a Gaussian encoder gives.

Twin of `jaxprob/vae/model.py`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from torch_ref.distributions import Independent, MultivariateNormal, Normal
from torch_ref.heads import NormalHead

__all__ = ["VAE", "LatentVariableModel", "VAEOutput", "reparameterize"]


class VAEOutput(NamedTuple):
    """q(z | x), draws of z `[*S, B, L]`, and p(x | z)."""

    q: Distribution
    z: Tensor
    p: Distribution


class LatentVariableModel(nn.Module):
    """Encoder, decoder and prior.

    Args:
      encoder: x -> features, or q(z | x) itself.
      decoder: z -> p(x | z).
      latent_dim: Number of latents L.
      encoder_features: Size of the features; None for an encoder that returns q(z | x).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        encoder_features: int | None = None,
    ):
        super().__init__()
        self.encoder, self.decoder, self.latent_dim = encoder, decoder, latent_dim
        if encoder_features is not None:
            self.posterior = NormalHead(encoder_features, latent_dim)

    def encode(self, x: Tensor) -> Distribution:
        """Returns q(z | x)."""
        out = self.encoder(x)
        return self.posterior(out) if isinstance(out, Tensor) else out

    def decode(self, z: Tensor) -> Distribution:
        """Returns p(x | z)."""
        return self.decoder(z)

    def generate(self, z: Tensor, key: Tensor, mean: bool = False) -> Tensor:
        """Returns a draw of p(x | z), or its mean."""
        p = self.decode(z)
        return p.mean if mean else p.draw(key)

    def prior(self) -> Distribution:
        """Returns p(z), independent standard normals."""
        return Independent(Normal(torch.zeros(self.latent_dim), torch.ones(self.latent_dim)), 1)

    def forward(self, x: Tensor, eps: Tensor) -> VAEOutput:
        """Encodes, draws by the noise `[*S, B, L]`, and decodes."""
        q = self.encode(x)
        z = reparameterize(q, eps)
        return VAEOutput(q, z, self.decode(z))

    def log_densities(self, q: Distribution, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log q(z | x) and log p(z) of each latent, or of all where they are dependent."""
        p = self.prior()
        if isinstance(q, Independent) and isinstance(p, Independent):
            return q.base_dist.log_prob(z), p.base_dist.log_prob(z)
        return q.log_prob(z).unsqueeze(-1), p.log_prob(z).unsqueeze(-1)

    def kl(self, q: Distribution) -> Tensor:
        """Returns KL(q(z | x) || p(z)) of each latent `[B, L]`, or of all `[B, 1]`."""
        p = self.prior()
        if isinstance(q, Independent) and isinstance(p, Independent):
            return torch.distributions.kl_divergence(q.base_dist, p.base_dist)
        return torch.distributions.kl_divergence(q, p).unsqueeze(-1)


class VAE(LatentVariableModel):
    """A variational autoencoder from any encoder and decoder."""


def reparameterize(q: Distribution, eps: Tensor) -> Tensor:
    """Returns draws of `q` as a function of standard normal noise `[*S, B, L]`."""
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)
    return q.base_dist.from_standard_normal(eps)
