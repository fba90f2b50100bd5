"""A variational autoencoder of sequences: one latent vector for all of their steps.

    z ~ N(0, I),   p(x | z) = prod_{t <= length} p(x_t | z, x_1, ..., x_{t - 1})
    h_t = RNN(h_{t-1}, [k_t e(x_{t-1}), k_t, z]),   p(x_t | ...) = head(h_t)
    q(z | x) = N(loc(h), diag scale(h)^2),  h the encoder's state after the last valid step

k_t says whether the decoder sees the value before: 0 at the first step, and where word dropout has
hidden it. So strong a decoder can do without z; annealing the KL and word dropout are the remedies.

Twin: `torch_ref/vae/recurrent.py`. Source: Bowman et al., "Generating sentences from a continuous
space" (2016), sections 2 and 3.1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, Shaped

from jaxprob.batches import without_padding
from jaxprob.distributions import Independent
from jaxprob.nn import GRU, LSTM
from jaxprob.requirements import require_choice, require_in
from jaxprob.types import AnyArray, Array, Key
from jaxprob.vae.average import mean_or_mode
from jaxprob.vae.model import LatentVariableModel

__all__ = ["RecurrentVAE"]

CELLS = {"gru": GRU, "lstm": LSTM}


class RecurrentVAE(LatentVariableModel):
    """Recurrent encoder and decoder around one latent vector a sequence.

    The batch of its losses holds "x" `[B, T, D]` (or `[B, T]`, as the head has it) and "lengths"
    `[B]`, 1 to T; without lengths all steps are valid. What stands behind the end changes nothing.

    Attributes:
      head: Likelihood of a step: a head of `jaxprob.heads`, e.g. `BernoulliHead(D)`, or
        `CategoricalHead(V)` for tokens.
      latent_dim: Number of latents L.
      hidden_size: Size of both recurrent states H.
      cell: "gru" or "lstm".
      embedding: Module from values `[B, T, ...]` to vectors `[B, T, E]`, shared by encoder and
        decoder; None takes the values as they are. Tokens need one: `jaxprob.nn.Embedding(V, E)`.
      word_dropout: Probability with which the decoder is not shown the value before, in training.
    """

    head: nn.Module
    latent_dim: int = 16
    hidden_size: int = 64
    cell: str = "gru"
    embedding: nn.Module | None = None
    word_dropout: float = 0.0

    takes, decoder_takes = ("lengths",), ("x",)

    def setup(self):
        """Makes the layers."""
        super().setup()
        require_choice("RecurrentVAE", CELLS, cell=self.cell)
        require_in("RecurrentVAE", "[0, 1]", "Write 0.0 for none.", word_dropout=self.word_dropout)
        self.encoder = CELLS[self.cell](self.hidden_size)
        self.decoder = CELLS[self.cell](self.hidden_size)

    def encode(
        self,
        x: Shaped[AnyArray, "B T *D"],
        lengths: Integer[AnyArray, " B"] | None = None,
        train: bool = False,
    ) -> Any:
        """Returns q(z | x) of the valid steps, batch shape `[B]`, event shape `(L,)`."""
        return self.posterior(self.summary(x, lengths))

    def summary(
        self, x: Shaped[AnyArray, "B T *D"], lengths: Integer[AnyArray, " B"] | None = None
    ) -> Float[Array, "B H"]:
        """Returns the encoder's state after the last valid step of each sequence."""
        _, state = self.encoder(self._embed(without_padding(x, lengths)), None, lengths)
        return (state[0] if self.cell == "lstm" else state)[-1]

    def decode(
        self,
        z: Float[AnyArray, "*B L"],
        x: Shaped[AnyArray, "..."] | None = None,
        lengths: Integer[AnyArray, " B"] | None = None,
        train: bool = False,
        key: Key | None = None,
    ) -> Any:
        """Returns p(x_t | z, x before t) of all steps, `Independent` over them.

        Args:
          z: Latents `[*S, B, L]`.
          x: Sequences `[B, T, ...]`, of which each step sees those before it.
          lengths: Valid steps `[B]`; distributions behind the end mean nothing.
          train: True in a step of training; word dropout asks for the key.
          key: Randomness of word dropout.

        Raises:
          ValueError: No sequences, or another number of them than of latents.
        """
        if x is None:
            raise ValueError(
                "RecurrentVAE: p(x | z) of a step needs the values before it, so decode takes x. "
                "To make sequences from latents alone write vae.sample(..., num_steps=T), or "
                "model.apply(variables, z, key, num_steps=T, method='generate')."
            )
        if z.shape[-2] != x.shape[0]:
            raise ValueError(
                f"RecurrentVAE: z has shape {z.shape} and x {x.shape}; expected z [*S, B, L] with "
                "the B of x."
            )
        embedded = self._embed(without_padding(x, lengths))
        batch, time, _ = embedded.shape
        known = jnp.ones((batch, time, 1), embedded.dtype).at[:, 0].set(0.0)
        if train and key is not None and self.word_dropout > 0.0:
            known = jnp.where(_kept(key, 1.0 - self.word_dropout, batch, time), known, 0.0)
        before = jnp.pad(embedded, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        seen = jnp.concatenate([known * before, known], axis=-1)
        seen = jnp.broadcast_to(seen, (*z.shape[:-2], *seen.shape))
        of_steps = jnp.broadcast_to(z[..., None, :], (*seen.shape[:-1], z.shape[-1]))
        inputs = jnp.concatenate([seen, of_steps.astype(seen.dtype)], axis=-1)
        outputs, _ = self.decoder(inputs.reshape(-1, time, inputs.shape[-1]))
        return Independent(self.head(outputs.reshape(*inputs.shape[:-1], -1)), 1)

    def generate(
        self,
        z: Float[AnyArray, "B L"],
        key: Key,
        mean: bool = False,
        num_steps: int = 1,
    ) -> Array:
        """Draws sequences step by step, each given the draws before it.

        Args:
          z: Latents `[B, L]`.
          key: Key of the draws; those of step t come from `fold_in(key, t)`, so that a longer
            sequence begins like a shorter one.
          mean: Whether each step is the mean given the means before it (of classes the most
            probable one); not the mean of p(x | z).
          num_steps: Steps T.

        Returns:
          Sequences `[B, T, ...]`.
        """
        dtype = jnp.result_type(z)

        def value_of(p: Any, key: Key) -> Array:
            return mean_or_mode(type(self).__name__, p) if mean else p.sample(seed=key)

        def embed(module: "RecurrentVAE", value: Array) -> Array:
            value = value if module.embedding is not None else value.astype(dtype)
            return module._embed(value[:, None])[:, 0]

        def step(module: "RecurrentVAE", carry: tuple, key: Key) -> tuple[tuple, Array]:
            state, before, known = carry
            inputs = jnp.concatenate([before, known, z], axis=-1)
            outputs, state = module.decoder(inputs[:, None], state)
            value = value_of(module.head(outputs[:, 0]), key)
            return (state, embed(module, value), jnp.ones_like(known)), value

        batch = z.shape[0]
        state = jnp.zeros((1, batch, self.hidden_size), dtype)
        first = embed(self, value_of(self.head(state[0]), key))  # for its shape
        start = (
            (state, state) if self.cell == "lstm" else state,
            jnp.zeros_like(first),
            jnp.zeros((batch, 1), dtype),
        )
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num_steps))
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, values = scan(self, start, keys)
        return jnp.moveaxis(values, 0, 1)

    def _embed(self, x: AnyArray) -> Array:
        """Vectors `[B, T, E]`."""
        if self.embedding is not None:
            return self.embedding(x)
        if x.ndim != 3 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"RecurrentVAE: x has shape {x.shape} and dtype {x.dtype}; expected floats "
                "[B, T, D]. Tokens [B, T] need embedding=jaxprob.nn.Embedding(V, E)."
            )
        return jnp.asarray(x)


def _kept(key: Key, rate: float, batch: int, time: int) -> Array:
    """Which values are shown `[B, T, 1]`; neither padding nor further rows change the others."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(time))
    kept = jax.vmap(lambda k: jax.random.bernoulli(k, rate, (batch,)))(keys)
    return kept.T[..., None]
