"""What variational layers share: their parameters, their noise, and the posterior of a whole model.

A layer's weights are one vector (bias, kernel) with its own Gaussian. Called with a key the layer
is random, called without it uses the mean `loc`. There are three ways to be random, all with the
same distribution of each row's output and so the same expected loss, but other noise:

    weights   one draw of the weights for the whole batch
    local     each row draws its own activations, y ~ N(x M + m_b, x^2 S^2 + s_b^2)
    flipout   one draw W = M + E of the weights, whose deviation each row flips by its own signs:
              y = x M + ((x * s) E) * r,   s and r of -1 and 1

The last two make the rows of a batch independent, so the variance of the gradient falls as 1 / B.
Both need weights that are independent of each other: covariance "diagonal".

Twin: `torch_ref/bayes/variational_layers.py`. Sources: Blundell et al., "Weight Uncertainty in
Neural Networks" (2015), section 3.2; Kingma, Salimans & Welling, "Variational dropout and the
local reparameterization trick" (2015), section 2.2; Wen et al., "Flipout" (2018), eqs. 4-5.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.batches import Inputs, inputs_of
from jaxprob.bayes import gaussian_block
from jaxprob.bayes.forward import Forward
from jaxprob.distributions.convert import convert_outputs
from jaxprob.nn.apply import (
    as_params,
    as_variables,
    average_over_draws,
    initialize,
    mode_options,
)
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior
from jaxprob.operations.linen import fast_convolutions
from jaxprob.requirements import require_choice, require_count
from jaxprob.types import Array, ArrayLike, Batch, Key, Params

__all__ = ["ESTIMATORS", "VariationalLayers", "check_layer", "layer_block", "noisy_map"]

ESTIMATORS = ("weights", "local", "flipout")

Prior = GaussianPrior | HierarchicalGaussianPrior


def check_layer(owner: str, covariance: str, estimator: str) -> None:
    """Raises a ValueError for an unknown covariance or estimator, or a pair that does not fit."""
    require_choice(owner, ("full", "diagonal"), covariance=covariance)
    require_choice(owner, ESTIMATORS, estimator=estimator)
    if estimator != "weights" and covariance != "diagonal":
        raise ValueError(
            f"{owner}: estimator {estimator!r} needs independent weights, covariance='diagonal'; "
            f"got {covariance!r}. With correlated weights write estimator='weights'."
        )


def layer_block(
    module: nn.Module, init_loc: Callable[[Key], Array], covariance: str, prior: Prior, scale: float
) -> dict[str, Array]:
    """Declares a layer's posterior as params of `module`, and sows its KL into "kl".

    Args:
      module: The layer, inside its compact call.
      init_loc: key -> mean `[P]` at the start.
      covariance: "full" or "diagonal".
      prior: Prior over the weights; what it learns becomes params of the layer.
      scale: Standard deviation of each weight at the start.

    Returns:
      The block of `gaussian_block`.
    """
    loc = jnp.asarray(module.param("loc", init_loc))
    name = "raw_scale" if covariance == "diagonal" else "raw_tril"
    start = gaussian_block.init_block(loc, covariance, scale)
    block = {"loc": loc, name: module.param(name, lambda _: start[name])}
    learned = {
        name: module.param(f"prior_{name}", lambda _, leaf: leaf, leaf)
        for name, leaf in prior.init(loc.shape[0], loc.dtype).items()
    }
    kl = gaussian_block.kl_to_prior(block, *prior.moments(learned)) + prior.own_kl(learned)
    # a layer that is called twice has one set of weights, and pays for it once
    module.sow("kl", "kl", kl, reduce_fn=lambda _, new: new, init_fn=lambda: None)
    return block


def noisy_map(
    linear: Callable[[Array, Array], Array],
    block: dict[str, Array],
    x: Array,
    key: Key,
    estimator: str,
) -> Array:
    """Returns the output of a random linear layer.

    Args:
      linear: (x `[B, ..., D]`, weights `[P]`) -> `[B, ..., F]`, linear in the weights.
      block: The posterior of the weights.
      x: Inputs `[B, ..., D]`, or one row `[D]`.
      key: Key of the noise.
      estimator: One of ESTIMATORS.
    """
    loc, size = block["loc"], block["loc"].shape[0]
    if estimator == "weights":
        eps = jax.random.normal(key, (1, size), loc.dtype)
        return linear(x, gaussian_block.sample(block, eps)[0])
    scale = gaussian_block.diagonal_scale(block)
    mean = linear(x, loc)
    if estimator == "local":
        variance = linear(x**2, scale**2)
        return mean + jnp.sqrt(variance) * jax.random.normal(key, mean.shape, mean.dtype)
    weight_key, in_key, out_key = jax.random.split(key, 3)
    deviation = scale * jax.random.normal(weight_key, (size,), loc.dtype)
    rows = (*x.shape[:-1][:1], *(1,) * (x.ndim - 2))  # one sign for a channel, at all positions
    signs = _signs(in_key, (*rows, x.shape[-1]), loc.dtype)
    flips = _signs(out_key, (*rows, mean.shape[-1]), loc.dtype)
    return mean + flips * linear(x * signs, deviation)


def _signs(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
    """-1 or 1, the coin being thrown in this dtype whatever the default is."""
    return 2 * jax.random.bernoulli(key, jnp.asarray(0.5, dtype), shape).astype(dtype) - 1


class VariationalLayers:
    """The posterior of a Linen model that is made of variational layers.

    Args:
      model: A module called as `model(x, key)` whose layers sow their KL into "kl".
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self._start = jax.jit(self._init)  # one program in place of a hundred

    def init(
        self,
        key: Key,
        example: ArrayLike | tuple[ArrayLike, ...] | Batch,
        inputs: Sequence[str] = ("x",),
    ) -> Params:
        """Returns the pytree to train: the variational parameters of all layers.

        Args:
          key: Randomness of the start.
          example: An input of the model, a tuple of several, or a batch.
          inputs: Entries of a batch that the model takes, in order.
        """
        return self._start(key, inputs_of(self.model, example, inputs).on_device())

    def _init(self, key: Key, example: Inputs) -> Params:
        variables = initialize(self.model, key, example)
        variables.pop("kl", None)
        return as_params(variables)

    def kl(
        self,
        params: Params,
        example: ArrayLike | tuple[ArrayLike, ...] | Batch,
        inputs: Sequence[str] = ("x",),
    ) -> Array:
        """Returns KL(q || prior) in nats, summed over the layers; `example` as for `init`."""
        given = inputs_of(self.model, example, inputs)
        return self.forward(params, given, jax.random.key(0), 1, train=False).kl

    def forward(
        self,
        params: Params,
        inputs: Inputs | tuple[Any, ...] | Batch,
        key: Key,
        num_samples: int,
        train: bool = True,
    ) -> Forward:
        """Returns the prediction of each draw (batch shape `[S, B]`) and KL(q || prior)."""
        require_count("VariationalLayers.forward", num_samples=num_samples)
        variables = as_variables(params)
        others = [name for name in variables if name != "params"]
        mutable = ["kl", *(others if train else [])]
        given = inputs_of(self.model, inputs).on_device()
        options = {**given.extra, **mode_options(self.model, train)}

        def one_draw(draw_key: Key):
            with fast_convolutions():
                output, state = self.model.apply(
                    variables, *given.arrays, draw_key, mutable=mutable, **options
                )
            return convert_outputs(output), state

        predictions, state = jax.vmap(one_draw)(jax.random.split(key, num_samples))
        state = dict(state)
        leaves = jax.tree.leaves(state.pop("kl", {}))
        if not leaves:
            raise ValueError(
                f"{type(self.model).__name__} has no variational layer: nothing was sown into "
                "the collection 'kl'. Wrap a plain model in GaussianPosterior instead."
            )
        return Forward(predictions, sum(leaf[0] for leaf in leaves), average_over_draws(state))

    def sample(self, params: Params, key: Key, num_draws: int = 1) -> Params:
        """Draws weights: the params tree with each layer's `loc` replaced by `[S, P]` draws.

        Returns:
          Draws for `bayes.predict`; with collections a whole variables dict.
        """
        require_count("VariationalLayers.sample", num_draws=num_draws)
        variables = as_variables(params)
        flat = flatten_dict(variables["params"])
        layers = sorted(path[:-1] for path in flat if path[-1] in ("raw_scale", "raw_tril"))

        def repeated(leaf: Array) -> Array:
            return jnp.broadcast_to(leaf, (num_draws, *leaf.shape))

        # what is not variational is the same in every draw
        draws = {path: repeated(leaf) for path, leaf in flat.items() if path[:-1] not in layers}
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
        weights = unflatten_dict(draws)
        others = {name: value for name, value in variables.items() if name != "params"}
        return {"params": weights, **jax.tree.map(repeated, others)} if others else weights
