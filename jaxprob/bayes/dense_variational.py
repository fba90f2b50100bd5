"""Variational dense layers, for those who come from TFP's layers.

    y = x W + b,   (b, W) ~ N(loc, L L^T) over all P = (D + 1) F weights of the layer together

Each layer holds its own posterior. Called with a key it draws one set of weights for the whole
batch; called without, it uses `loc`. A posterior draw is therefore the same params tree with `loc`
replaced by the drawn weights, and `bayes.predict` takes it as it takes any other.

Twin: `torch_ref/bayes/dense_variational.py`. Source: Blundell et al., "Weight Uncertainty in Neural
Networks" (2015), section 3.2.
"""

from collections.abc import Callable, Sequence

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.bayes import gaussian_block
from jaxprob.distributions import Distribution, Independent, Normal
from jaxprob.heads.normal import SCALE_FLOOR
from jaxprob.objectives import GaussianPrior
from jaxprob.types import Array, ArrayLike, Key, Params

__all__ = ["BayesianMLP", "DenseVariational", "VariationalLayers"]


class DenseVariational(nn.Module):
    """A dense layer with a Gaussian posterior over its bias and kernel.

    With P = (D + 1) F weights, "full" has P (P + 3) / 2 parameters and "diagonal" has 2 P. The
    KL to the prior is sown into the collection "kl".

    Attributes:
      features: Output size F.
      covariance: "full" or "diagonal".
      prior: Prior over the weights; its trainable parts become params of the layer.
      init_scale: Standard deviation of each weight at the start.
    """

    features: int
    covariance: str = "full"
    prior: GaussianPrior = GaussianPrior()
    init_scale: float = 0.05

    @nn.compact
    def __call__(self, x: Array, key: Key | None = None) -> Array:
        """Maps `[B, D]` to `[B, F]`; `key` draws the weights, None takes `loc` for them."""
        if self.covariance not in ("full", "diagonal"):
            raise ValueError(
                f"DenseVariational: covariance must be 'full' or 'diagonal'; got "
                f"{self.covariance!r}."
            )
        fan_in, size = x.shape[-1], (x.shape[-1] + 1) * self.features
        loc = self.param("loc", _init_loc, fan_in, self.features)
        weights = loc
        if key is not None or self.is_initializing():
            block = {"loc": loc}
            for name in ("raw_scale",) if self.covariance == "diagonal" else ("raw_tril",):
                start = gaussian_block.init_block(loc, self.covariance, self.init_scale)
                block[name] = self.param(name, lambda _, leaf: leaf, start[name])
            prior = {
                name: self.param(f"prior_{name}", lambda _, leaf: leaf, start)
                for name, start in self.prior.init(size, loc.dtype).items()
            }
            kl = gaussian_block.kl_to_prior(block, *self.prior.loc_and_scale(prior))
            self.sow("kl", "kl", kl, reduce_fn=jnp.add, init_fn=lambda: jnp.zeros((), loc.dtype))
            if key is not None:
                eps = jax.random.normal(key, (1, size), loc.dtype)
                weights = gaussian_block.sample(block, eps)[0]
        bias, kernel = weights[: self.features], weights[self.features :]
        return x @ kernel.reshape(fan_in, self.features) + bias[None]


def _init_loc(key: Key, fan_in: int, features: int) -> Array:
    """Bias 0 and a LeCun-normal kernel, as one vector."""
    kernel = nn.initializers.lecun_normal()(key, (fan_in, features))
    return jnp.concatenate([jnp.zeros(features, kernel.dtype), kernel.reshape(-1)])


class BayesianMLP(nn.Module):
    """Variational dense layers to the mean and scale of a normal likelihood.

    Attributes:
      hidden: Width of each hidden layer.
      features: Number of targets D.
      activation: Elementwise function between the layers.
      covariance: "full" (within each layer) or "diagonal".
      prior: Prior over the weights.
      init_scale: Standard deviation of each weight at the start.
    """

    hidden: Sequence[int] = (8,)
    features: int = 1
    activation: Callable[[Array], Array] = nn.sigmoid
    covariance: str = "full"
    prior: GaussianPrior = GaussianPrior()
    init_scale: float = 0.05

    @nn.compact
    def __call__(self, x: Array, key: Key | None = None) -> Distribution:
        """Maps `[B, D_in]` to a distribution over `[B, D]` under one draw of all weights."""
        widths = (*self.hidden, 2 * self.features)
        keys = [None] * len(widths) if key is None else list(jax.random.split(key, len(widths)))
        for i, (width, layer_key) in enumerate(zip(widths, keys, strict=True)):
            layer = DenseVariational(
                width, self.covariance, self.prior, self.init_scale, name=f"dense_{i}"
            )
            x = layer(x, layer_key)
            if i < len(self.hidden):
                x = self.activation(x)
        loc, raw = jnp.split(x, 2, axis=-1)
        return Independent(Normal(loc, jax.nn.softplus(raw) + SCALE_FLOOR), 1)


class VariationalLayers:
    """The posterior of a Linen model that is made of variational layers.

    Args:
      model: A module called as `model(x, key)` whose layers sow their KL into "kl".
    """

    def __init__(self, model: nn.Module):
        self.model = model

    def init(self, key: Key, example: ArrayLike) -> Params:
        """Returns the params of the model, the variational parameters of all its layers."""
        return self.model.init(key, jnp.asarray(example))["params"]

    def kl(self, params: Params, example: ArrayLike) -> Array:
        """Returns KL(q || prior) in nats, summed over the layers."""
        return self.forward(params, example, jax.random.key(0), 1)[1]

    def forward(
        self, params: Params, x: ArrayLike, key: Key, num_samples: int
    ) -> tuple[distrax.Distribution, Array]:
        """Returns the prediction of each draw (batch shape `[S, B]`) and KL(q || prior)."""
        variables = {"params": params}

        def one_draw(draw_key: Key):
            return self.model.apply(variables, jnp.asarray(x), draw_key, mutable=["kl"])

        predictions, state = jax.vmap(one_draw)(jax.random.split(key, num_samples))
        leaves = jax.tree.leaves(state)
        if not leaves:
            raise ValueError(
                f"{type(self.model).__name__} has no variational layer: nothing was sown into "
                "the collection 'kl'. Wrap a plain model in GaussianPosterior instead."
            )
        return predictions, sum(leaf[0] for leaf in leaves)

    def sample(self, params: Params, key: Key, num_draws: int = 1) -> Params:
        """Draws weights: the params tree with each layer's `loc` replaced by `[S, P]` draws."""
        flat = flatten_dict(params)
        layers = sorted(path[:-1] for path in flat if path[-1] in ("raw_scale", "raw_tril"))
        # what is not variational is the same in every draw
        draws = {
            path: jnp.broadcast_to(leaf, (num_draws, *leaf.shape))
            for path, leaf in flat.items()
            if path[:-1] not in layers
        }
        for path, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            block = {
                name: flat[(*path, name)]
                for name in ("loc", "raw_scale", "raw_tril")
                if (*path, name) in flat
            }
            eps = jax.random.normal(
                layer_key, (num_draws, block["loc"].shape[0]), block["loc"].dtype
            )
            draws[(*path, "loc")] = gaussian_block.sample(block, eps)
        return unflatten_dict(draws)
