"""Models with a latent variable for each row, and the one that a Gaussian encoder gives.

    p(x, z) = p(z) p(x | z),   q(z | x) = N(loc(x), diag scale(x)^2),   z = loc + scale eps

The objectives (`negative_elbo`, `negative_iwae`, `log_marginal`, ...) ask a model for no more than
the methods of `LatentVariableModel`: another prior or another posterior overrides those it changes.
What a model takes beside x it names in `takes`, and what its decoder alone takes in
`decoder_takes` (there "x" stands for the data itself, of which a step may see those before it).
Each method gets by name those entries that it has an argument for; `given` is all of them.

Twin: `torch_ref/vae/model.py`. Source: Kingma & Welling, "Auto-encoding variational Bayes" (2014),
section 3; Rezende, Mohamed & Wierstra, "Stochastic backpropagation" (2014).
"""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxprob.batches import accepted, extra_inputs
from jaxprob.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    MultivariateNormalDiag,
    Normal,
)
from jaxprob.distributions.convert import convert_outputs
from jaxprob.distributions.validation import align
from jaxprob.heads import NormalHead
from jaxprob.nn.apply import mode_options
from jaxprob.types import AnyArray, Array, Key, summary
from jaxprob.vae.average import mean_or_mode

__all__ = ["VAE", "LatentVariableModel", "VAEOutput", "in_dtype", "reparameterize"]


class VAEOutput(NamedTuple):
    """What a model makes of a batch and of noise.

    Attributes:
      q: q(z | x), batch shape `[B]`.
      z: Draws of it `[*S, B, L]`.
      p: p(x | z), batch shape `[*S, B]`.
    """

    q: Any
    z: Array
    p: Any

    def __repr__(self) -> str:
        return summary("VAEOutput", **self._asdict())


class LatentVariableModel(nn.Module):
    """The methods by which objectives know a model; a subclass has `encoder` and `decoder`.

    Latents fall into J factors (each latent is one, where prior and posterior are independent), so
    that a bound can say, and bound from below, what each of them knows.
    """

    if TYPE_CHECKING:  # fields, or made in setup: the subclass decides
        encoder: ClassVar[Any]
        decoder: ClassVar[Any]
        latent_dim: ClassVar[Any]

    # Without annotations, for Linen would make them fields, which come before a subclass's own.
    prior_model = None  # a module that returns p(z), see `priors`; None for standard normals
    takes = ()  # entries of the batch for any method, such as "condition" or "lengths"
    decoder_takes = ()  # entries for decode alone

    def setup(self):
        """Makes the layer from features to q(z | x), for encoders that return features."""
        self.posterior = NormalHead(self.latent_dim)

    def encode(self, x: Shaped[AnyArray, "B *D"], train: bool = False) -> Any:
        """Returns q(z | x), batch shape `[B]`, event shape `(L,)`."""
        out = _in_mode(self.encoder, x, train)
        return out if isinstance(out, distrax.Distribution) else self.posterior(out)

    def decode(self, z: Float[AnyArray, "*B L"], train: bool = False) -> Any:
        """Returns p(x | z), batch shape `[*B]`."""
        return _in_mode(self.decoder, z, train)

    def generate(
        self, z: Float[AnyArray, "*B L"], key: Key, mean: bool = False, **given: AnyArray
    ) -> Array:
        """Returns a draw of p(x | z), or its mean (of classes the mode), `[*B, *event]`."""
        p = self._ask("decode", z, **given)
        return mean_or_mode(type(self).__name__, p) if mean else p.sample(seed=key)

    def prior(self) -> Any:
        """Returns p(z), event shape `(L,)`: `prior_model`'s, or independent standard normals."""
        if self.prior_model is not None:
            return self.prior_model(self.encode, self.latent_dim)
        return Independent(Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)), 1)

    def __call__(
        self,
        x: Shaped[AnyArray, "B *D"],
        eps: Float[AnyArray, "..."],
        *positional: AnyArray,
        train: bool = False,
        key: Key | None = None,
        **given: AnyArray,
    ) -> VAEOutput:
        """Encodes, draws and decodes.

        Args:
          x: Data `[B, *event]`.
          eps: Standard normal noise `[*S, B, L]`, S draws for each row.
          *positional: What the model takes, in the order of `takes`.
          train: True in a step of training, for encoders and decoders that ask for it.
          key: Randomness of a decoder that asks for it, such as word dropout.
          **given: What the model takes, by name.

        Returns:
          q(z | x), z, and p(x | z).

        Raises:
          ValueError: Noise of another shape, a posterior whose draws have no gradient, or an entry
            that is missing.
        """
        given |= dict(zip(self.takes, positional, strict=False))
        given = extra_inputs(self, {"x": x, **given})
        if self.is_initializing():
            self._ask("prior", **given)  # makes its parameters, for which no draw asks
        q, z = self.infer(x, eps, train=train, **given)
        if "x" in self.decoder_takes:
            given["x"] = x
        return VAEOutput(q, z, self._ask("decode", z, train=train, key=key, **given))

    def _ask(self, method: str, *arrays: AnyArray, **entries: Any) -> Any:
        """What a method returns, given those of the entries that it has an argument for."""
        function = getattr(self, method)
        return convert_outputs(function(*arrays, **accepted(function, entries)))

    def infer(
        self, x: AnyArray, eps: AnyArray, train: bool = False, **given: AnyArray
    ) -> tuple[Any, Array]:
        """Returns q(z | x) and draws of it `[*S, B, L]`."""
        q = self._ask("encode", x, train=train, **given)
        return q, reparameterize(q, eps)

    def code(self, x: Shaped[AnyArray, "B *D"], **given: AnyArray) -> Float[Array, "B L"]:
        """Returns one point for each row: the mean of q(z | x)."""
        return self._ask("encode", x, **given).mean()

    def sample_prior(self, key: Key, num: int, **given: AnyArray) -> Float[Array, "N *B L"]:
        """Returns `num` draws of p(z), for each row of what is given where there is something."""
        floats = [
            leaf
            for leaf in jax.tree.leaves(self.variables)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        prior = in_dtype(self._ask("prior", **given), floats or [jnp.zeros(())])
        rows = [value.shape[0] for name, value in given.items() if name != "lengths"]
        shape = (num, rows[0]) if rows and not prior.batch_shape else (num,)
        return prior.sample(seed=key, sample_shape=shape)

    def log_densities(
        self, q: Any, z: Float[AnyArray, "*S B L"], **given: AnyArray
    ) -> tuple[Float[Array, "*S B J"], Float[Array, "*S B J"]]:
        """Returns log q(z | x) and log p(z) of each factor, in nats."""
        p = in_dtype(self._ask("prior", **given), q)
        if _factorised(q, p):
            return q.marginal().log_prob(z), p.marginal().log_prob(z)
        return q.log_prob(z)[..., None], p.log_prob(z)[..., None]

    def log_densities_of_draws(
        self, output: VAEOutput, **given: AnyArray
    ) -> tuple[Float[Array, "*S B J"], Float[Array, "*S B J"]]:
        """Returns `log_densities` at the draws of `output`, whose pass may have found them."""
        return self.log_densities(output.q, output.z, **given)

    def kl(self, q: Any, **given: AnyArray) -> Float[Array, "B J"]:
        """Returns KL(q(z | x) || p(z)) of each factor, in nats.

        Raises:
          NotImplementedError: A pair without a closed form.
        """
        p = in_dtype(self._ask("prior", **given), q)
        try:
            if _factorised(q, p):
                return q.marginal().kl_divergence(p.marginal())
            return q.kl_divergence(p)[..., None]
        except NotImplementedError as error:
            raise NotImplementedError(
                f"{type(self).__name__}: KL(q(z | x) || p(z)) has no closed form for {q.name} and "
                f"{p.name}. Estimate it from the draws: negative_elbo(..., analytic_kl=False)."
            ) from error

    def kl_at_draws(self, output: VAEOutput, **given: AnyArray) -> Float[Array, "B J"]:
        """Returns `kl`, where it needs draws of other latents, at those of `output`."""
        return self.kl(output.q, **given)


class VAE(LatentVariableModel):
    """A variational autoencoder from any encoder and any decoder.

    Attributes:
      encoder: x `[B, ...]` -> features `[B, H]`, which one dense layer turns into mean and scale
        of q(z | x); or a module that returns a distribution over `[L]` itself.
      decoder: z `[*B, L]` -> p(x | z): a network that ends in any head of `jaxprob.heads`, e.g.
        `nn.Sequential([MLP((200,)), heads.BernoulliHead(784)])`.
      latent_dim: Number of latents L.
      prior_model: `MixturePrior`, `VampPrior` or another module that returns p(z); None for
        independent standard normals.
    """

    encoder: nn.Module
    decoder: nn.Module
    latent_dim: int
    prior_model: nn.Module | None = None


def reparameterize(q: Any, eps: AnyArray) -> Array:
    """Returns draws of `q` `[*S, B, L]` as a differentiable function of standard normal noise.

    Args:
      q: Batch shape `[B]`, event shape `(L,)`: independent factors with pathwise draws, or
        `MultivariateNormal`.
      eps: `[*S, B, L]`.

    Raises:
      ValueError: Noise of another shape, or another kind of distribution.
    """
    expected = (*q.batch_shape, *q.event_shape)
    eps = jnp.asarray(eps)
    if eps.shape[max(eps.ndim - len(expected), 0) :] != expected:
        raise ValueError(
            f"eps has shape {eps.shape}; expected [*S, B, L] with [B, L] = {expected}, as q(z | x) "
            "has it. Draw it by jax.random.normal(key, (S, B, L))."
        )
    if isinstance(q, MultivariateNormal):
        factor = align(q.scale_tril, eps.ndim + 1)
        return align(q.loc, eps.ndim) + jnp.sum(factor * eps[..., None, :], axis=-1)
    factors = Independent | MultivariateNormalDiag
    if not (isinstance(q, Distribution) and isinstance(q, factors) and q.reparameterized):
        raise ValueError(
            f"q(z | x) is {getattr(q, 'name', type(q).__name__)}, whose draws are not a smooth "
            "function of noise. Let the encoder return features, Independent(Normal(loc, scale), "
            "1), MultivariateNormalDiag or MultivariateNormal."
        )
    return q.marginal().from_standard_normal(eps)


def in_dtype(prior: Any, like: Any) -> Any:
    """Returns a prior in the float dtype of a pytree: nothing tells it what the data is made of."""
    dtype = jnp.result_type(*jax.tree.leaves(like))
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, prior
    )


def _in_mode(module: nn.Module, x: AnyArray, train: bool) -> Any:
    return module(x, **mode_options(module, train))


def _factorised(q: Any, p: Any) -> bool:
    return isinstance(q, Independent) and isinstance(p, Independent)
