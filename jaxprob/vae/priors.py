"""Priors that are learned: a mixture of normals, and a mixture of posteriors.

    MixturePrior   p(z) = sum_k w_k N(z; loc_k, diag scale_k^2)
    VampPrior      p(z) = (1 / K) sum_k q(z | u_k),   u_k learned pseudo-inputs

Both are modules that a model takes as `prior_model`, called as `prior_model(encode, latent_dim)`.
Their KL has no closed form: `negative_elbo(model, analytic_kl=False)`.

Twin: `torch_ref/vae/priors.py`. Source: Tomczak & Welling, "VAE with a VampPrior" (2018), sections
2 and 3; the mixture of normals is the simpler alternative that they compare with.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxprob.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
)
from jaxprob.heads.links import positive
from jaxprob.requirements import require_count
from jaxprob.types import Array

__all__ = ["MixturePrior", "VampPrior"]

Encode = Callable[..., Any]

ONE = math.log(math.expm1(1.0))
"""Where softplus is 1."""


class MixturePrior(nn.Module):
    """A mixture of normals over the latents, all of it learned.

    Its components start as standard normals whose centres are drawn from one.

    Attributes:
      num_components: Number of components K.
    """

    num_components: int = 10

    @nn.compact
    def __call__(self, encode: Encode, latent_dim: int) -> MixtureSameFamily:
        """Returns p(z), event shape `(latent_dim,)`; `encode` is not asked.

        Raises:
          ValueError: No component.
        """
        require_count("MixturePrior", num_components=self.num_components)
        count = self.num_components
        shape = (count, latent_dim)
        logits = self.param("logits", nn.initializers.zeros, (count,))
        loc = self.param("loc", nn.initializers.normal(1.0), shape)
        raw_scale = self.param("raw_scale", nn.initializers.constant(ONE), shape)
        components = Independent(Normal(loc, positive(raw_scale)), 1)
        return MixtureSameFamily(Categorical(logits=logits), components)


class VampPrior(nn.Module):
    """The mixture of the posteriors of K inputs that are learned, each of the same weight.

    The pseudo-inputs start as standard normals. A better start are rows of the data: set
    `params["prior_model"]["pseudo_inputs"]` to K of them (before `activation`).

    Attributes:
      shape: Shape of a row of data, `(784,)`.
      num_components: Number of pseudo-inputs K.
      activation: From the parameters to pseudo-inputs in the range of the data: `nn.sigmoid` for
        grey levels; None for data that may be any number.
    """

    shape: Sequence[int]
    num_components: int = 50
    activation: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(self, encode: Encode, latent_dim: int) -> MixtureSameFamily:
        """Returns p(z), the mean of q(z | x) over the pseudo-inputs.

        Raises:
          ValueError: No component, or an encoder whose q(z | x) is no distribution over `[L]`.
        """
        require_count("VampPrior", num_components=self.num_components)
        count = self.num_components
        raw = self.param("pseudo_inputs", nn.initializers.normal(1.0), (count, *self.shape))
        q = encode(raw if self.activation is None else self.activation(raw))
        if not isinstance(q, Distribution) or q.event_shape != (latent_dim,):
            raise ValueError(
                f"VampPrior: encode returned {type(q).__name__}; expected a distribution over "
                f"[{latent_dim}], of which to take the mixture. Use MixturePrior with this model."
            )
        logits = jnp.zeros((count,), raw.dtype)
        return MixtureSameFamily(Categorical(logits=logits), q)
