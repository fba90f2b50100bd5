"""Models with a latent variable for each row, and the one that a Gaussian encoder gives.

Twin of `jaxprob/vae/model.py`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from torch_ref.batches import accepted
from torch_ref.distributions import Independent, MultivariateNormal, Normal
from torch_ref.heads import NormalHead
from torch_ref.vae.average import mean_or_mode

__all__ = ["VAE", "LatentVariableModel", "VAEOutput", "reparameterize"]


class VAEOutput(NamedTuple):
    """q(z | x), draws of z `[*S, B, L]`, and p(x | z)."""

    q: Any
    z: Tensor
    p: Distribution


class LatentVariableModel(nn.Module):
    """Encoder, decoder and prior.

    Args:
      encoder: x -> features, or q(z | x) itself.
      decoder: z -> p(x | z).
      latent_dim: Number of latents L.
      encoder_features: Size of the features; None for an encoder that returns q(z | x).
      prior_model: Module that returns p(z); None for independent standard normals.
    """

    takes: tuple[str, ...] = ()
    decoder_takes: tuple[str, ...] = ()

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        encoder_features: int | None = None,
        prior_model: nn.Module | None = None,
    ):
        super().__init__()
        self.encoder, self.decoder, self.latent_dim = encoder, decoder, latent_dim
        self.prior_model = prior_model
        if encoder_features is not None:
            self.posterior = NormalHead(encoder_features, latent_dim)

    def encode(self, x: Tensor) -> Distribution:
        """Returns q(z | x)."""
        out = self.encoder(x)
        return self.posterior(out) if isinstance(out, Tensor) else out

    def decode(self, z: Tensor) -> Distribution:
        """Returns p(x | z)."""
        return self.decoder(z)

    def generate(self, z: Tensor, key: Tensor, mean: bool = False, **given: Tensor) -> Tensor:
        """Returns a draw of p(x | z), or its mean (of classes the mode)."""
        p = self._ask("decode", z, **given)
        return mean_or_mode(p) if mean else p.draw(key)

    def prior(self) -> Distribution:
        """Returns p(z)."""
        if self.prior_model is not None:
            return self.prior_model(self.encode)
        return Independent(Normal(torch.zeros(self.latent_dim), torch.ones(self.latent_dim)), 1)

    def forward(
        self, x: Tensor, eps: Tensor, *positional: Tensor, key: Tensor | None = None, **given: Any
    ) -> VAEOutput:
        """Encodes, draws by the noise `[*S, B, L]`, and decodes, each given what it takes."""
        given = {**dict(zip(self.takes, positional, strict=False)), **given}
        q, z = self.infer(x, eps, **given)
        if "x" in self.decoder_takes:
            given["x"] = x
        return VAEOutput(q, z, self._ask("decode", z, key=key, **given))

    def _ask(self, method: str, *arrays: Any, **entries: Any) -> Any:
        function = getattr(self, method)
        return function(*arrays, **accepted(function, entries))

    def infer(self, x: Tensor, eps: Tensor, **given: Tensor) -> tuple[Any, Tensor]:
        """Returns q(z | x) and draws of it."""
        q = self._ask("encode", x, **given)
        return q, reparameterize(q, eps)

    def code(self, x: Tensor, **given: Tensor) -> Tensor:
        """Returns the mean of q(z | x)."""
        return self._ask("encode", x, **given).mean

    def sample_prior(self, key: Tensor, num: int, **given: Tensor) -> Tensor:
        """Returns draws of p(z), `[num, *B, L]`."""
        prior = self._ask("prior", **given)
        rows = [len(value) for name, value in given.items() if name != "lengths"]
        return prior.draw(key, (num, rows[0]) if rows and not prior.batch_shape else (num,))

    def log_densities_of_draws(self, output: VAEOutput, **given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns `log_densities` at the draws of one pass."""
        return self.log_densities(output.q, output.z, **given)

    def kl_at_draws(self, output: VAEOutput, **given: Tensor) -> Tensor:
        """Returns `kl`, given the draws of one pass where it depends on them."""
        return self.kl(output.q, **given)

    def log_densities(self, q: Any, z: Tensor, **given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns log q(z | x) and log p(z) of each latent, or of all where they are dependent."""
        p = self._ask("prior", **given)
        if isinstance(q, Independent) and isinstance(p, Independent):
            return q.base_dist.log_prob(z), p.base_dist.log_prob(z)
        return q.log_prob(z).unsqueeze(-1), p.log_prob(z).unsqueeze(-1)

    def kl(self, q: Any, **given: Tensor) -> Tensor:
        """Returns KL(q(z | x) || p(z)) of each latent `[B, L]`, or of all `[B, 1]`."""
        p = self._ask("prior", **given)
        if isinstance(q, Independent) and isinstance(p, Independent):
            return torch.distributions.kl_divergence(q.base_dist, p.base_dist)
        return torch.distributions.kl_divergence(q, p).unsqueeze(-1)


class VAE(LatentVariableModel):
    """A variational autoencoder from any encoder and decoder."""


def reparameterize(q: Distribution, eps: Tensor) -> Tensor:
    """Returns draws of `q` as a function of standard normal noise `[*S, B, L]`."""
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)
    return q.marginal().from_standard_normal(eps)
