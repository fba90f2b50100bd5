"""A Gaussian variational posterior over the params of any Linen model.

The weights of the model are cut into groups ("diagonal" and "layer": one group for each module that
owns params; "low_rank" and "full": one group for all) and each group has its own Gaussian,
`gaussian_block`. A draw is a params pytree of the model, with the draws as leading axis S, so that
`bayes.predict` and any other function of params take it as it is.

Under a normal prior the KL is exact. Any other prior with a density (`SpikeAndSlabPrior` is the
scale mixture of Bayes by Backprop) is compared at the draws themselves, mean log q(w) - log p(w).

With `select` only some of the weights are uncertain, such as those of the last layer; the others
are trained as numbers, without a prior, and are the same in every draw.

Twin: `torch_ref/bayes/gaussian_posterior.py`. Source: Blundell et al., "Weight Uncertainty in
Neural Networks" (2015), section 3, here with full covariances as well.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.batches import Inputs, inputs_of
from jaxprob.bayes import gaussian_block
from jaxprob.bayes.forward import Forward
from jaxprob.nn.apply import average_over_draws, call, initialize
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior
from jaxprob.objectives.maximum_a_posteriori import Prior, selected
from jaxprob.requirements import require_choice, require_count
from jaxprob.types import Array, Batch, Key, Params

__all__ = ["GaussianPosterior"]

COVARIANCES = ("diagonal", "low_rank", "layer", "full")


class GaussianPosterior:
    """q(w) = N(loc, Sigma), trained by `negative_elbo`.

    Args:
      model: Any Linen module. One with batch statistics or dropout says whether it is trained by an
        argument of its `__call__`, see `jaxprob.nn.apply`.
      example: An input of the model, e.g. `x_train[:1]`, a tuple of its inputs, or a batch; only
        shapes and dtypes matter.
      covariance: "diagonal" (mean field), "low_rank" (diagonal and `rank` directions over the whole
        network), "layer" (full within each layer, P (P + 3) / 2 numbers for a layer of P weights)
        or "full" (over the whole network).
      prior: Prior over the weights. What a `GaussianPrior(trainable=...)` or a
        `HierarchicalGaussianPrior` learns is learned with the posterior.
      init_scale: Standard deviation of each weight at the start.
      rank: Number of directions R of "low_rank".
      select: Which weights are uncertain, by their path as in `objectives.map_loss`, e.g.
        `lambda path: path.startswith("head")` for a Bayesian last layer. Default: all.

    Raises:
      ValueError: An unknown covariance, a rank below 1, a model without params, or a selection
        without any.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Any,
        covariance: str = "layer",
        prior: Prior | HierarchicalGaussianPrior | None = None,
        init_scale: float = 0.05,
        rank: int = 10,
        select: Callable[[str], bool] | None = None,
    ):
        require_choice(
            "GaussianPosterior", COVARIANCES, "'layer' is the usual choice.", covariance=covariance
        )
        if not init_scale > gaussian_block.SCALE_FLOOR:
            raise ValueError(
                f"GaussianPosterior: init_scale must be above {gaussian_block.SCALE_FLOOR}; got "
                f"{init_scale}. It is the standard deviation of a weight at the start."
            )
        require_count(
            "GaussianPosterior", "Without common directions write covariance='diagonal'.", rank=rank
        )
        if not (prior is None or hasattr(prior, "log_prob") or hasattr(prior, "moments")):
            raise ValueError(
                "GaussianPosterior: the prior must have a method log_prob(params); got "
                f"{prior!r}. Write objectives.GaussianPrior(scale)."
            )
        self.model = model
        self.covariance = covariance
        self.prior = GaussianPrior() if prior is None else prior
        self.init_scale = init_scale
        self.rank = rank
        self._example = inputs_of(model, example).on_device()
        shapes = jax.eval_shape(
            lambda key: initialize(model, key, self._example), jax.random.key(0)
        )
        if "params" not in shapes:
            raise ValueError(
                f"GaussianPosterior: {type(model).__name__} has no params, only the collections "
                f"{sorted(shapes)}; there is nothing to be uncertain about."
            )
        self._collections = sorted(set(shapes) - {"params"})
        leaves = {path: leaf.shape for path, leaf in flatten_dict(shapes["params"]).items()}
        names = {"/".join(path): path for path in leaves}
        chosen = names if select is None else selected("GaussianPosterior", names, select)
        self._leaves = {names[name]: leaves[names[name]] for name in chosen}
        self._points = [path for path in leaves if path not in self._leaves]
        self._groups = _group(sorted(self._leaves), covariance)
        self._start = jax.jit(self._init)  # one program in place of a hundred
        self._draw = jax.jit(self._draws, static_argnums=2, inline=True)

    @property
    def collections(self) -> tuple[str, ...]:
        """Names of the model's collections other than "params"."""
        return tuple(self._collections)

    @property
    def num_weights(self) -> int:
        """Number of weights that the posterior is over."""
        return sum(self._sizes(name)[-1] for name in self._groups)

    @property
    def has_points(self) -> bool:
        """Whether some weights of the model are not selected, and are numbers."""
        return bool(self._points)

    def init(self, key: Key) -> Params:
        """Returns the variational parameters at the start: the model's own initialisation as mean.

        Returns:
          `{"posterior": {group: {"loc", "raw_scale" | "raw_tril" (, "factor")}}}`, with "prior"
          beside it where a part of the prior is learned, "point" with the weights that are not
          selected, and "collections" where the model has others than "params".
        """
        return self._start(key)

    def _init(self, key: Key) -> Params:
        variables = initialize(self.model, key, self._example)
        weights = flatten_dict(variables.pop("params"))
        block = {"layer": "full"}.get(self.covariance, self.covariance)
        params: dict[str, Any] = {"posterior": {}}
        for index, (name, paths) in enumerate(self._groups.items()):
            loc = jnp.concatenate([weights[path].reshape(-1) for path in paths])
            params["posterior"][name] = gaussian_block.init_block(
                loc, block, self.init_scale, self.rank, jax.random.fold_in(key, index)
            )
        if self._prior_learns:
            params["prior"] = {
                name: self.prior.init(b["loc"].shape[0], b["loc"].dtype)
                for name, b in params["posterior"].items()
            }
        if self._points:
            params["point"] = self.points_of(unflatten_dict(weights))
        if variables:
            params["collections"] = variables
        return params

    def points_of(self, weights: Params) -> Params:
        """Returns those of the model's params that are numbers in the posterior."""
        leaves = flatten_dict(weights)
        return unflatten_dict({path: leaves[path] for path in self._points})

    def sample(self, params: Params, key: Key, num_draws: int = 1) -> Params:
        """Draws weights, differentiable in `params`.

        Args:
          params: Variational parameters.
          key: One key; the noise of all groups is one `[S, numbers]` normal draw from it.
          num_draws: Number of draws S.

        Returns:
          A params pytree of the model, each leaf with leading axis S; for a model with other
          collections its whole variables dict.
        """
        require_count("GaussianPosterior.sample", num_draws=num_draws)
        return self._draw(params, key, num_draws)

    def _draws(self, params: Params, key: Key, num_draws: int) -> Params:
        weights = self._weights(params, key, num_draws)
        if not self._collections:
            return weights
        repeated = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_draws, *leaf.shape)), params["collections"]
        )
        return {"params": weights, **repeated}

    def _weights(self, params: Params, key: Key, num_draws: int) -> Params:
        blocks = params["posterior"]
        ends = list(
            itertools.accumulate(gaussian_block.noise_size(blocks[name]) for name in self._groups)
        )
        dtype = blocks[next(iter(self._groups))]["loc"].dtype
        eps = jax.random.normal(key, (num_draws, ends[-1]), dtype)
        draws: dict[tuple[str, ...], Array] = {}
        for name, noise in zip(self._groups, jnp.split(eps, ends[:-1], axis=1), strict=True):
            draws.update(self._unflatten(name, gaussian_block.sample(blocks[name], noise)))
        for path, leaf in flatten_dict(params.get("point", {})).items():
            draws[path] = jnp.broadcast_to(leaf, (num_draws, *jnp.shape(leaf)))
        return unflatten_dict(draws)

    def mean(self, params: Params) -> Params:
        """Returns the posterior mean as a params pytree of the model (no leading axis).

        For a model with other collections its whole variables dict, as `sample` gives it.
        """
        weights = self.weights_at(
            {name: params["posterior"][name]["loc"] for name in self._groups},
            params.get("point", {}),
        )
        if not self._collections:
            return weights
        return {"params": weights, **params["collections"]}

    def weights_at(self, vectors: dict[str, Array], point: Params) -> Params:
        """Returns the model's params from the vector of each group and the weights beside them."""
        leaves = dict(flatten_dict(point))
        for name in self._groups:
            leaves.update(self._unflatten(name, vectors[name]))
        return unflatten_dict(leaves)

    def kl(self, params: Params, draws: Params | None = None) -> Array:
        """Returns KL(q || prior) in nats, summed over all weights.

        Args:
          params: Variational parameters.
          draws: What `sample` gives, with leading axis S; only needed for a prior under which the
            KL has no closed form: there it is estimated as their mean of log q - log p.

        Raises:
          ValueError: No draws, and no closed form.
        """
        if isinstance(self.prior, GaussianPrior | HierarchicalGaussianPrior):
            total = jnp.zeros(())
            for name, block in params["posterior"].items():
                learned = params.get("prior", {}).get(name, {})
                total += gaussian_block.kl_to_prior(block, *self.prior.moments(learned))
                total += self.prior.own_kl(learned)
            return total
        if draws is None:
            raise ValueError(
                f"GaussianPosterior: the KL to {self.prior} has no closed form; give draws="
                "q.sample(params, key, num_draws) to estimate it."
            )
        log_ratio = jax.vmap(lambda w: self.log_prob(params, w) - self.prior.log_prob(w))
        return jnp.mean(log_ratio(self._uncertain(draws)))

    def log_prob(self, params: Params, weights: Params) -> Array:
        """Returns log q(w) in nats of one draw, as `sample` gives it, without the leading axis.

        Weights that are not selected have no density, and count for nothing.
        """
        leaves = flatten_dict(self._uncertain(weights))
        total = jnp.zeros(())
        for name, paths in self._groups.items():
            vector = jnp.concatenate([leaves[path].reshape(-1) for path in paths])
            total = total + gaussian_block.log_prob(params["posterior"][name], vector)
        return total

    def forward(
        self,
        params: Params,
        inputs: Inputs | tuple[Any, ...] | Batch,
        key: Key,
        num_samples: int,
        train: bool = True,
    ) -> Forward:
        """Returns the prediction of each draw (batch shape `[S, B]`) and KL(q || prior).

        The collections of the model (running statistics) see every draw; the mean over the draws
        goes on.
        """
        require_count("GaussianPosterior.forward", num_samples=num_samples)
        draws = self._weights(params, key, num_samples)
        inner_keys = jax.random.split(jax.random.fold_in(key, 1), num_samples)
        collections = params.get("collections", {})
        given = inputs_of(self.model, inputs).on_device()

        def one_draw(weights: Params, inner_key: Key):
            variables = {"params": weights, **collections}
            return call(self.model, variables, given, inner_key, train)

        predictions, state = jax.vmap(one_draw)(draws, inner_keys)
        return Forward(predictions, self.kl(params, draws), average_over_draws(state))

    def _uncertain(self, weights: Params) -> Params:
        """The weights that q is over, from params of the model or its whole variables dict."""
        if self._collections and isinstance(weights, dict) and "params" in weights:
            weights = weights["params"]
        if not self._points:
            return weights
        leaves = flatten_dict(weights)
        return unflatten_dict({path: leaves[path] for path in self._leaves})

    @property
    def _prior_learns(self) -> bool:
        return bool(getattr(self.prior, "trainable", ()))

    def _sizes(self, name: str) -> list[int]:
        """Running ends of the leaves of a group inside its vector."""
        return list(
            itertools.accumulate(math.prod(self._leaves[path]) for path in self._groups[name])
        )

    def _unflatten(self, name: str, vector: Array) -> dict[tuple[str, ...], Array]:
        """Cuts `[..., P]` into the leaves of a group, each `[..., *shape]`."""
        pieces = jnp.split(vector, self._sizes(name)[:-1], axis=-1)
        return {
            path: piece.reshape(vector.shape[:-1] + self._leaves[path])
            for path, piece in zip(self._groups[name], pieces, strict=True)
        }

    def __repr__(self) -> str:
        others = f", {len(self._points)} arrays as numbers" if self._points else ""
        return (
            f"GaussianPosterior({type(self.model).__name__}, covariance={self.covariance!r}, "
            f"{self.num_weights} weights in {len(self._groups)} groups{others},\n"
            f"  prior={self.prior})"
        )


def _group(paths: list[tuple[str, ...]], covariance: str) -> dict[str, list[tuple[str, ...]]]:
    """Groups leaves by the module that owns them, or all together; order is that of the paths."""
    if covariance in ("full", "low_rank"):
        return {"all": paths}
    groups: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        groups.setdefault("/".join(path[:-1]) or "top", []).append(path)
    return groups
