"""A variational autoencoder of sequences: one latent vector for all of their steps.

Twin of `jaxprob/vae/recurrent.py`.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from torch_ref import random
from torch_ref.batches import without_padding
from torch_ref.distributions import Independent
from torch_ref.nn import GRU, LSTM
from torch_ref.vae.average import mean_or_mode
from torch_ref.vae.model import LatentVariableModel

__all__ = ["RecurrentVAE"]


class RecurrentVAE(LatentVariableModel):
    """Recurrent encoder and decoder around one latent vector a sequence.

    Args:
      head: Likelihood of a step, of `hidden_size` features.
      features: Size of a step, after the embedding where there is one.
      latent_dim: Number of latents L.
      hidden_size: Size of both recurrent states.
      cell: "gru" or "lstm".
      embedding: Values `[B, T, ...]` -> vectors `[B, T, E]`; None for values as they are.
      word_dropout: Probability that the decoder is not shown the value before, in training.
    """

    takes, decoder_takes = ("lengths",), ("x",)

    def __init__(
        self,
        head: nn.Module,
        features: int,
        latent_dim: int = 16,
        hidden_size: int = 64,
        cell: str = "gru",
        embedding: nn.Module | None = None,
        word_dropout: float = 0.0,
    ):
        layer = {"gru": GRU, "lstm": LSTM}[cell]
        encoder = layer(features, hidden_size)
        decoder = layer(features + 1 + latent_dim, hidden_size)
        super().__init__(encoder, decoder, latent_dim, hidden_size)
        self.head, self.word_dropout = head, word_dropout
        self.embedding = nn.Identity() if embedding is None else embedding
        self.features = features

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> Distribution:
        """Returns q(z | x)."""
        return self.posterior(self.summary(x, lengths))

    def summary(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns the encoder's state after each sequence's last valid step, `[B, H]`."""
        _, state = self.encoder(self.embedding(without_padding(x, lengths)), None, lengths)
        return (state[0] if isinstance(state, tuple) else state)[0]

    def decode(
        self, z: Tensor, x: Tensor, lengths: Tensor | None = None, key: Tensor | None = None
    ) -> Distribution:
        """Returns p(x_t | z, x before t) of all steps; with a key, under word dropout."""
        embedded = self.embedding(without_padding(x, lengths))
        rows, time, _ = embedded.shape
        known = torch.ones(rows, time, 1, dtype=embedded.dtype)
        if key is not None and self.word_dropout > 0.0:
            for t in range(time):
                shown = random.bernoulli(
                    random.fold_in(key, t), torch.tensor(1.0 - self.word_dropout), (rows,)
                )
                known[:, t, 0] = shown.to(known)
        known[:, 0] = 0.0
        before = torch.cat([torch.zeros_like(embedded[:, :1]), embedded[:, :-1]], 1)
        seen = torch.cat([known * before, known], -1)
        outputs = []
        for codes in z.reshape(-1, *z.shape[-2:]):
            of_steps = codes.unsqueeze(1).expand(-1, time, -1)
            outputs.append(self.decoder(torch.cat([seen, of_steps], -1))[0])
        hidden = torch.stack(outputs).unflatten(0, z.shape[:-2] or (1,))
        return Independent(self.head(hidden if z.ndim > 2 else hidden[0]), 1)

    def generate(self, z: Tensor, key: Tensor, mean: bool = False, num_steps: int = 1) -> Tensor:
        """Draws sequences `[B, T, ...]` step by step."""
        state, values = None, []
        seen = z.new_zeros(len(z), self.features + 1)
        for t in range(num_steps):
            outputs, state = self.decoder(torch.cat([seen, z], -1).unsqueeze(1), state)
            p = self.head(outputs[:, 0])
            value = mean_or_mode(p) if mean else p.draw(random.fold_in(key, t))
            values.append(value)
            given = value if value.ndim == 1 else value.to(z)
            seen = torch.cat([self.embedding(given), torch.ones_like(z[:, :1])], -1)
        return torch.stack(values, 1)
