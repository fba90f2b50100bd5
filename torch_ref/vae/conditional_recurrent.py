"""The autoencoder of sequences, given a condition.

Twin of `jaxprob/vae/conditional_recurrent.py`.
"""

from typing import Any

import torch
from torch import Tensor

from torch_ref.distributions import Distribution, Independent, Normal
from torch_ref.heads import NormalHead
from torch_ref.vae.recurrent import RecurrentVAE

__all__ = ["ConditionalRecurrentVAE"]


class ConditionalRecurrentVAE(RecurrentVAE):
    """A RecurrentVAE given a condition `[B, condition_features]`."""

    takes = ("lengths", "condition")

    def __init__(self, *args: Any, condition_features: int, **options: Any):
        super().__init__(*args, **options)
        recurrent: Any = self.decoder
        size = recurrent.input_size + condition_features
        self.decoder = type(recurrent)(size, recurrent.hidden_size)
        self.posterior = NormalHead(recurrent.hidden_size + condition_features, self.latent_dim)

    def encode(self, x: Tensor, condition: Tensor, lengths: Tensor | None = None) -> Distribution:
        """Returns q(z | x, c)."""
        return self.posterior(torch.cat([self.summary(x, lengths), condition], -1))

    def decode(
        self,
        z: Tensor,
        condition: Tensor,
        x: Tensor,
        lengths: Tensor | None = None,
        key: Tensor | None = None,
    ) -> Distribution:
        """Returns p(x_t | z, c, x before t) of all steps."""
        given = condition.expand(*z.shape[:-1], -1)
        return super().decode(torch.cat([z, given], -1), x, lengths, key)

    def prior(self, condition: Tensor) -> Distribution:
        """Returns p(z) for each row of the condition."""
        zeros = condition.new_zeros(len(condition), self.latent_dim)
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

    def generate(
        self,
        z: Tensor,
        key: Tensor,
        mean: bool = False,
        num_steps: int = 1,
        *,
        condition: Tensor,
    ) -> Tensor:
        """Draws sequences `[*S, B, T, ...]` step by step."""
        given = torch.cat([z, condition.expand(*z.shape[:-1], -1)], -1)
        values = super().generate(given.flatten(0, -2), key, mean, num_steps)
        return values.unflatten(0, z.shape[:-1])
