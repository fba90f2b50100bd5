"""The autoencoder of sequences, given a condition: what is written about, who speaks.

    p(x, z | c) = N(z; 0, I) prod_t p(x_t | z, c, x before t),   q(z | x, c) = N(loc, diag scale^2)
    (loc, scale) from (h, c),  h the encoder's state after the last valid step

Twin: `torch_ref/vae/conditional_recurrent.py`. Source: Bowman et al., "Generating sentences from a
continuous space" (2016), for sequences; Sohn, Lee & Yan (2015), section 4, for the condition.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Float, Integer, Shaped

from jaxprob.distributions import Independent, Normal
from jaxprob.types import AnyArray, Array, Key
from jaxprob.vae.conditional import joined
from jaxprob.vae.recurrent import RecurrentVAE

__all__ = ["ConditionalRecurrentVAE"]


class ConditionalRecurrentVAE(RecurrentVAE):
    """`RecurrentVAE` whose posterior and decoder are given a condition `[B, C]`.

    batch = {"x": x, "lengths": lengths, "condition": condition}
    vae.sample(model, params, key, 5, given={"condition": condition}, num_steps=20)
    """

    takes = ("lengths", "condition")

    def encode(
        self,
        x: Shaped[AnyArray, "B T *D"],
        condition: Shaped[AnyArray, "B C"],
        lengths: Integer[AnyArray, " B"] | None = None,
    ) -> Any:
        """Returns q(z | x, c) of the valid steps, batch shape `[B]`, event shape `(L,)`."""
        return self.posterior(joined(self.summary(x, lengths), condition))

    def decode(
        self,
        z: Float[AnyArray, "*B L"],
        condition: Shaped[AnyArray, "B C"],
        x: Shaped[AnyArray, "..."] | None = None,
        lengths: Integer[AnyArray, " B"] | None = None,
        train: bool = False,
        key: Key | None = None,
    ) -> Any:
        """Returns p(x_t | z, c, x before t) of all steps, `Independent` over them."""
        return super().decode(joined(z, condition), x, lengths, train, key)

    def prior(self, condition: Shaped[AnyArray, "B C"]) -> Any:
        """Returns p(z), one for each row of the condition, on which it does not depend."""
        shape = (condition.shape[0], self.latent_dim)
        return Independent(Normal(jnp.zeros(shape), jnp.ones(shape)), 1)

    def generate(
        self,
        z: Float[AnyArray, "*S B L"],
        key: Key,
        mean: bool = False,
        num_steps: int = 1,
        *,
        condition: Shaped[AnyArray, "B C"],
    ) -> Array:
        """Draws sequences step by step, `[*S, B, T, ...]`, see `RecurrentVAE.generate`."""
        given = joined(z, condition)
        values = super().generate(given.reshape(-1, given.shape[-1]), key, mean, num_steps)
        return values.reshape(*z.shape[:-1], *values.shape[1:])
