"""The conditional VAE: what is generated depends on a condition that is given.

    p(x, z | c) = p(z | c) p(x | z, c),   q(z | x, c) = N(loc(x, c), diag scale(x, c)^2)
    p(z | c) = N(0, I), or learned: N(m(c), diag s(c)^2)

The condition joins x before the encoder and z before the decoder. Losses find it in the batch, as
`batch["condition"]`; the other functions take `given={"condition": c}`.

Twin: `torch_ref/vae/conditional.py`. Source: Sohn, Lee & Yan, "Learning structured output
representation using deep conditional generative models" (2015), section 4.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.distributions import Independent, Normal
from jaxprob.heads import BernoulliHead, NormalHead
from jaxprob.nn import MLP
from jaxprob.types import AnyArray, Array
from jaxprob.vae.dense import require_rows
from jaxprob.vae.model import LatentVariableModel

__all__ = ["ConditionalVAE", "joined"]


class ConditionalVAE(LatentVariableModel):
    """`DenseVAE` given a condition `[B, C]`: numbers, or classes as `jax.nn.one_hot(y, C)`.

        params = model.init(key, x[:1], jnp.zeros((1, L)), condition=condition[:1])["params"]

    Attributes:
      features: Size of a row of data D.
      hidden: Width of each hidden layer of the encoder; the decoder's are these in reverse, those
        of the learned prior the same.
      latent_dim: Number of latents L.
      activation: Elementwise function between the layers.
      likelihood: Makes the head of p(x | z, c) from D: a class of `jaxprob.heads`, or
        `partial(heads.NormalHead, homoscedastic=True)`.
      learn_prior: Whether p(z | c) is learned; False for standard normals.
    """

    features: int = 784
    hidden: Sequence[int] = (256,)
    latent_dim: int = 20
    activation: Callable[[Array], Array] = nn.relu
    likelihood: Callable[[int], nn.Module] = BernoulliHead
    learn_prior: bool = False

    takes = ("condition",)

    def setup(self):
        """Makes the layers."""
        super().setup()
        self.encoder = MLP(self.hidden, self.activation)
        self.decoder = MLP(tuple(self.hidden)[::-1], self.activation)
        self.head = self.likelihood(self.features)
        if self.learn_prior:
            self.prior_network = MLP(self.hidden, self.activation)
            self.prior_head = NormalHead(self.latent_dim)

    def encode(
        self, x: Shaped[AnyArray, "B D"], condition: Shaped[AnyArray, "B C"], train: bool = False
    ) -> Any:
        """Returns q(z | x, c) of rows `[B, D]`.

        Raises:
          ValueError: Rows of another size.
        """
        require_rows(type(self).__name__, x, self.features)
        return super().encode(joined(x, condition), train)

    def decode(
        self, z: Float[AnyArray, "*B L"], condition: Shaped[AnyArray, "R C"], train: bool = False
    ) -> Any:
        """Returns p(x | z, c), event shape `(D,)`; the last batch axis of z is the condition's."""
        return self.head(super().decode(joined(z, condition), train))

    def prior(self, condition: Shaped[AnyArray, "B C"]) -> Any:
        """Returns p(z | c), batch shape `[B]`, event shape `(L,)`."""
        if self.learn_prior:
            return self.prior_head(self.prior_network(condition))
        shape = (condition.shape[0], self.latent_dim)
        return Independent(Normal(jnp.zeros(shape), jnp.ones(shape)), 1)


def joined(x: AnyArray, condition: AnyArray) -> Array:
    """Returns x `[*S, B, D]` and the condition of each row side by side."""
    shape = (*x.shape[:-1], condition.shape[-1])
    lead = (1,) * (x.ndim - condition.ndim)
    return jnp.concatenate(
        [x, jnp.broadcast_to(condition.reshape(lead + condition.shape), shape)], axis=-1
    )
