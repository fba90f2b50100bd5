"""The conditional VAE: p(x | z, c), q(z | x, c) and p(z | c).

Twin of `jaxprob/vae/conditional.py`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from torch_ref.distributions import Distribution, Independent, Normal
from torch_ref.heads import BernoulliHead, NormalHead
from torch_ref.nn import MLP
from torch_ref.vae.model import LatentVariableModel

__all__ = ["ConditionalVAE"]


class ConditionalVAE(LatentVariableModel):
    """A DenseVAE given a condition `[B, condition_features]`."""

    takes = ("condition",)

    def __init__(
        self,
        features: int = 784,
        hidden: Sequence[int] = (256,),
        latent_dim: int = 20,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        likelihood: Callable[[int, int], nn.Module] = BernoulliHead,
        learn_prior: bool = False,
        *,
        condition_features: int,
    ):
        encoder = MLP(features + condition_features, hidden, activation)
        decoder = MLP(latent_dim + condition_features, hidden[::-1], activation)
        super().__init__(encoder, decoder, latent_dim, encoder.out_features)
        self.head = likelihood(decoder.out_features, features)
        self.learn_prior = learn_prior
        if learn_prior:
            self.prior_network = MLP(condition_features, hidden, activation)
            self.prior_head = NormalHead(self.prior_network.out_features, latent_dim)

    def encode(self, x: Tensor, condition: Tensor) -> Distribution:
        """Returns q(z | x, c)."""
        return super().encode(torch.cat([x, condition], -1))

    def decode(self, z: Tensor, condition: Tensor) -> Distribution:
        """Returns p(x | z, c)."""
        given = condition.expand(*z.shape[:-1], -1)
        return self.head(self.decoder(torch.cat([z, given], -1)))

    def prior(self, condition: Tensor) -> Distribution:
        """Returns p(z | c), batch shape `[B]`."""
        if self.learn_prior:
            return self.prior_head(self.prior_network(condition))
        zeros = condition.new_zeros(len(condition), self.latent_dim)
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)
