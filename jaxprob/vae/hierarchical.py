"""A VAE with several layers of latents, one above the other.

    p(x, z) = p(z_N) p(z_{N-1} | z_N) ... p(z_1 | z_2) p(x | z_1),   p(z_N) = N(0, I)

    bottom-up   q(z | x) = q(z_1 | x) q(z_2 | z_1) ... q(z_N | z_{N-1})
    ladder      q(z | x) = q(z_N | x) q(z_{N-1} | z_N, x) ... q(z_1 | z_2, x),
                1 / s^2 = 1 / a^2 + 1 / t^2,   m = s^2 (b / a^2 + n / t^2)

where N(b, a^2) is what x says of z_l, by a deterministic pass upwards, and N(n, t^2) = p(z_l |
z_{l+1}); both are each normal with diagonal covariance. The KL of a layer is

    E log q(z_l | ...) - log p(z_l | z_{l+1})

For a ladder it is closed given z_{l+1}; bottom-up it is so for the uppermost layer alone, and the
others are estimated from the draws whatever `analytic_kl` is.

All latents stand in one vector `[*S, B, L]`, the lowest layer first; `layers` takes it apart.

Twin: `torch_ref/vae/hierarchical.py`. Source: Sønderby et al., "Ladder variational autoencoders"
(2016), section 2.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxprob.distributions import Independent, Normal
from jaxprob.distributions.validation import align
from jaxprob.heads import BernoulliHead, NormalHead
from jaxprob.nn import MLP
from jaxprob.types import AnyArray, Array, Key, summary
from jaxprob.vae.dense import require_rows
from jaxprob.vae.model import LatentVariableModel, VAEOutput, in_dtype, reparameterize

__all__ = ["HierarchicalPosterior", "HierarchicalVAE", "merge"]


class HierarchicalPosterior(NamedTuple):
    """What x says of the latents; the rest of q(z | x) is made of the model's layers.

    Attributes:
      evidence: Bottom-up, q(z_1 | x) alone; for a ladder a normal for each layer, the lowest first.
        Batch shape `[B]`.
    """

    evidence: tuple[Independent, ...]

    def __repr__(self) -> str:
        return summary("HierarchicalPosterior", **self._asdict())


class HierarchicalVAE(LatentVariableModel):
    """Dense layers between data and latents, and between layers of latents.

    Attributes:
      features: Size of a row of data D.
      hidden: Width of each hidden layer between two layers of latents, on the way up; on the way
        down they are gone through backwards.
      latent_dims: Number of latents of each layer, the lowest first: `(20, 10)`.
      activation: Elementwise function between the layers.
      likelihood: Makes the head of p(x | z_1) from D: a class of `jaxprob.heads`, or
        `partial(heads.NormalHead, homoscedastic=True)`.
      ladder: Whether q is a ladder, which keeps more layers in use; otherwise it is bottom-up.
    """

    features: int = 784
    hidden: Sequence[int] = (256,)
    latent_dims: Sequence[int] = (20, 10)
    activation: Callable[[Array], Array] = nn.relu
    likelihood: Callable[[int], nn.Module] = BernoulliHead
    ladder: bool = False

    @property
    def latent_dim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of latents L of all layers together."""
        return sum(self.latent_dims)

    @property
    def decoded_dim(self) -> int:
        """Number of latents of the lowest layer, the only ones that `decode` reads."""
        return self.latent_dims[0]

    def setup(self):
        """Makes the layers.

        Raises:
          ValueError: Fewer than two layers, or one without latents.
        """
        if len(self.latent_dims) < 2 or min(self.latent_dims) < 1:
            raise ValueError(
                "HierarchicalVAE: latent_dims must name at least two layers of at least one "
                f"latent, as (20, 10); got {tuple(self.latent_dims)}. DenseVAE has one layer."
            )
        down = tuple(self.hidden)[::-1]
        self.encoders = [MLP(self.hidden, self.activation) for _ in self.latent_dims]
        self.posteriors = [NormalHead(size) for size in self.latent_dims]
        self.prior_networks = [MLP(down, self.activation) for _ in self.latent_dims[1:]]
        self.priors = [NormalHead(size) for size in self.latent_dims[:-1]]
        self.decoder = MLP(down, self.activation)
        self.head = self.likelihood(self.features)

    def layers(self, values: Any) -> list[Any]:
        """Returns an array whose last axis is that of all latents as one array for each layer."""
        split = np.split if isinstance(values, np.ndarray) else jnp.split
        return split(values, np.cumsum(self.latent_dims)[:-1], axis=-1)

    def encode(self, x: Shaped[AnyArray, "B *D"], train: bool = False) -> HierarchicalPosterior:
        """Returns what x says of the latents, by one deterministic pass.

        Raises:
          ValueError: Rows of another size.
        """
        require_rows(type(self).__name__, x, self.features)
        h = self.encoders[0](x)
        evidence = [self.posteriors[0](h)]
        if self.ladder:
            for encoder, posterior in zip(self.encoders[1:], self.posteriors[1:], strict=True):
                h = encoder(h)
                evidence.append(posterior(h))
        return HierarchicalPosterior(tuple(evidence))

    def decode(self, z: Float[AnyArray, "*B L"], train: bool = False) -> Any:
        """Returns p(x | z_1), event shape `(D,)`; the upper layers of z are not asked."""
        return self.head(self.decoder(self.layers(jnp.asarray(z))[0]))

    def prior(self) -> Any:
        """Returns p(z_N) of the uppermost layer, independent standard normals."""
        size = self.latent_dims[-1]
        return Independent(Normal(jnp.zeros(size), jnp.ones(size)), 1)

    def infer(
        self, x: AnyArray, eps: AnyArray, train: bool = False
    ) -> tuple[HierarchicalPosterior, Array]:
        """Returns q(z | x) and draws of it `[*S, B, L]`, layer by layer.

        Raises:
          ValueError: Noise of another shape.
        """
        q, eps = self.encode(x, train), jnp.asarray(eps)
        expected = (x.shape[0], self.latent_dim)
        if eps.shape[-2:] != expected:
            raise ValueError(
                f"eps has shape {eps.shape}; expected [*S, B, L] with [B, L] = {expected}, L the "
                "latents of all layers. Draw it by jax.random.normal(key, (S, B, L))."
            )
        if self.is_initializing():
            self._conditionals(q, eps)  # makes the layers for which only a density asks
        return q, self._posterior(q, eps, reparameterize)[1]

    def code(self, x: Shaped[AnyArray, "B *D"]) -> Float[Array, "B L"]:
        """Returns the mean of each layer given the means of those before it in q(z | x)."""
        q = self.encode(x)
        nothing = jnp.zeros((x.shape[0], self.latent_dim))
        return self._posterior(q, nothing, lambda q, _: q.mean())[1]

    def sample_prior(self, key: Key, num: int) -> Float[Array, "N L"]:
        """Returns `num` draws of p(z)."""
        dtype = jnp.result_type(*jax.tree.leaves(self.variables))
        eps = jax.random.normal(key, (num, self.latent_dim), dtype)
        return self.redraw(eps, eps, len(self.latent_dims) - 1)

    def redraw(
        self, z: Float[AnyArray, "*B L"], eps: Float[AnyArray, "*B L"], keep: int
    ) -> Float[Array, "*B L"]:
        """Draws the lower layers anew from the prior, given the upper ones.

        Args:
          z: Latents of all layers.
          eps: Standard normal noise of the same shape; zeros put each layer at its mean.
          keep: The lowest layer that stays: N - 1 keeps the uppermost alone, 0 all of them.

        Returns:
          `z` with the layers below `keep` drawn from p(z_l | z_{l+1}).

        Raises:
          ValueError: No such layer.
        """
        if not 0 <= keep < len(self.latent_dims):
            raise ValueError(
                f"redraw: keep must be from 0 to {len(self.latent_dims) - 1}; got {keep}."
            )
        parts, noise = self.layers(jnp.asarray(z)), self.layers(jnp.asarray(eps))
        for i in reversed(range(keep)):
            parts[i] = self._prior_below(i, parts[i + 1]).marginal().from_standard_normal(noise[i])
        return jnp.concatenate(parts, axis=-1)

    def log_densities(
        self, q: HierarchicalPosterior, z: Float[AnyArray, "*S B L"]
    ) -> tuple[Float[Array, "*S B L"], Float[Array, "*S B L"]]:
        """Returns the log-density of each latent under q and under p, given those before it."""
        z = jnp.asarray(z)
        parts = self.layers(z)
        log_q, log_p = (
            [one.marginal().log_prob(part) for one, part in zip(side, parts, strict=True)]
            for side in self._conditionals(q, z)
        )
        return jnp.concatenate(log_q, axis=-1), jnp.concatenate(log_p, axis=-1)

    def kl_at_draws(self, output: VAEOutput) -> Float[Array, "B L"]:
        """Returns the KL of each latent, closed where it can be, given the draws of the others."""
        log_q, log_p = self.log_densities(output.q, output.z)
        parts = self.layers(log_q - log_p)
        pairs = list(zip(*self._conditionals(output.q, output.z), strict=True))
        for i, (q, p) in enumerate(pairs):
            # bottom-up, p of a lower layer depends on draws that depend on this one
            if self.ladder or i == len(pairs) - 1:
                closed = q.marginal().kl_divergence(p.marginal())
                parts[i] = jnp.broadcast_to(closed, parts[i].shape)
        kl = jnp.concatenate(parts, axis=-1)
        return jnp.mean(kl, axis=tuple(range(kl.ndim - 2)))

    def kl(self, q: HierarchicalPosterior) -> Float[Array, "B L"]:
        """Needs draws, see `kl_at_draws`.

        Raises:
          NotImplementedError: Always.
        """
        raise NotImplementedError(
            "HierarchicalVAE: the KL of one layer depends on draws of the others. Call "
            "kl_at_draws(model(x, eps))."
        )

    def _posterior(
        self, q: HierarchicalPosterior, given: Array, pick: Callable[[Any, Array], Array]
    ) -> tuple[list[Any], Array]:
        """Each layer under q given those before it, and z, of which `pick(q_l, part of given)`."""
        parts, count = self.layers(given), len(self.latent_dims)
        conditionals: list[Any] = [None] * count
        for i in range(count)[:: -1 if self.ladder else 1]:
            if self.ladder:
                one = q.evidence[i]
                if i < count - 1:
                    one = merge(one, self._prior_below(i, parts[i + 1]))
            else:
                one = self._posterior_above(i, parts[i - 1]) if i else q.evidence[0]
            conditionals[i], parts[i] = one, pick(one, parts[i])
        return conditionals, jnp.concatenate(parts, axis=-1)

    def _conditionals(self, q: HierarchicalPosterior, z: Array) -> tuple[list[Any], list[Any]]:
        """Each layer under q and under p, given the layers before it in z."""
        parts = self.layers(z)
        below = [self._prior_below(i, part) for i, part in enumerate(parts[1:])]
        ours, _ = self._posterior(q, z, lambda _, part: part)
        return ours, [*below, in_dtype(self.prior(), q)]

    def _prior_below(self, i: int, upper: Array) -> Independent:
        """p(z_i | z_{i+1}), layers counted from 0."""
        return self.priors[i](self.prior_networks[i](upper))

    def _posterior_above(self, i: int, lower: Array) -> Independent:
        """q(z_i | z_{i-1}), layers counted from 0."""
        return self.posteriors[i](self.encoders[i](lower))


def merge(evidence: Independent, prior: Independent) -> Independent:
    """Returns the normal proportional to the product of two, the second perhaps with more axes."""
    a, b = evidence.marginal(), prior.marginal()
    loc, scale = (align(value, b.loc.ndim) for value in (a.loc, a.scale))
    # 1 / (1 / a^2 + 1 / t^2), by shares that cannot overflow
    total = scale**2 + b.scale**2
    share = b.scale**2 / total
    return Independent(
        Normal(share * loc + (1.0 - share) * b.loc, scale * b.scale / jnp.sqrt(total)), 1
    )
