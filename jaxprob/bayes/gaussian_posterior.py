"""A Gaussian variational posterior over the params of any Linen model.

The weights of the model are cut into groups ("diagonal" and "layer": one group for each module that
owns params; "full": one group for all) and each group has its own Gaussian, `gaussian_block`. A
draw is a params pytree of the model, with the draws as leading axis S, so that `bayes.predict` and
any other function of params take it as it is.

Twin: `torch_ref/bayes/gaussian_posterior.py`. Source: Blundell et al., "Weight Uncertainty in
Neural Networks" (2015), section 3, here with full covariances as well.
"""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.bayes import gaussian_block
from jaxprob.objectives import GaussianPrior
from jaxprob.types import Array, ArrayLike, Key, Params

__all__ = ["GaussianPosterior"]

COVARIANCES = ("diagonal", "layer", "full")


class GaussianPosterior:
    """q(w) = N(loc, Sigma), trained by `negative_elbo`.

    Args:
      model: Any Linen module whose only collection is "params".
      example: An input of the model, e.g. `x_train[:1]`; only its shape and dtype matter.
      covariance: "diagonal" (mean field), "layer" (full within each layer, P (P + 3) / 2 numbers
        for a layer of P weights) or "full" (over the whole network).
      prior: Prior over the weights; its `trainable` parts are learned with the posterior.
      init_scale: Standard deviation of each weight at the start.

    Raises:
      ValueError: An unknown covariance, or a model without params or with other collections.
    """

    def __init__(
        self,
        model: nn.Module,
        example: ArrayLike,
        covariance: str = "layer",
        prior: GaussianPrior | None = None,
        init_scale: float = 0.05,
    ):
        if covariance not in COVARIANCES:
            raise ValueError(
                f"GaussianPosterior: covariance must be one of {', '.join(COVARIANCES)}; got "
                f"{covariance!r}. 'layer' is the usual choice."
            )
        if not init_scale > gaussian_block.SCALE_FLOOR:
            raise ValueError(
                f"GaussianPosterior: init_scale must be above {gaussian_block.SCALE_FLOOR}; got "
                f"{init_scale}. It is the standard deviation of a weight at the start."
            )
        self.model = model
        self.covariance = covariance
        self.prior = GaussianPrior() if prior is None else prior
        self.init_scale = init_scale
        self._example = jnp.asarray(example)
        shapes = jax.eval_shape(model.init, jax.random.key(0), self._example)
        if set(shapes) != {"params"}:
            raise ValueError(
                f"GaussianPosterior: the model has the collections {sorted(shapes)}; expected "
                "'params' alone. Use a model without batch statistics or other state."
            )
        self._leaves = {path: leaf.shape for path, leaf in flatten_dict(shapes["params"]).items()}
        self._groups = _group(sorted(self._leaves), covariance)

    @property
    def num_weights(self) -> int:
        """Number of weights of the model."""
        return sum(self._sizes(name)[-1] for name in self._groups)

    def init(self, key: Key) -> Params:
        """Returns the variational parameters at the start: the model's own initialisation as mean.

        Returns:
          `{"posterior": {group: {"loc", "raw_scale" | "raw_tril"}}}`, with `"prior"` beside it
          where a part of the prior is trainable.
        """
        weights = flatten_dict(self.model.init(key, self._example)["params"])
        block = "diagonal" if self.covariance == "diagonal" else "full"
        params = {"posterior": {}}
        for name, paths in self._groups.items():
            loc = jnp.concatenate([weights[path].reshape(-1) for path in paths])
            params["posterior"][name] = gaussian_block.init_block(loc, block, self.init_scale)
        if self.prior.trainable:
            params["prior"] = {
                name: self.prior.init(b["loc"].shape[0], b["loc"].dtype)
                for name, b in params["posterior"].items()
            }
        return params

    def sample(self, params: Params, key: Key, num_draws: int = 1) -> Params:
        """Draws weights, differentiable in `params`.

        Args:
          params: Variational parameters.
          key: One key; the noise of all groups is one `[S, num_weights]` normal draw from it.
          num_draws: Number of draws S.

        Returns:
          A params pytree of the model, each leaf with leading axis S.
        """
        dtype = jax.tree.leaves(params["posterior"])[0].dtype
        eps = jax.random.normal(key, (num_draws, self.num_weights), dtype)
        draws, start = {}, 0
        for name in self._groups:
            size = self._sizes(name)[-1]
            weights = gaussian_block.sample(params["posterior"][name], eps[:, start : start + size])
            draws.update(self._unflatten(name, weights))
            start += size
        return unflatten_dict(draws)

    def mean(self, params: Params) -> Params:
        """Returns the posterior mean as a params pytree of the model (no leading axis)."""
        leaves = {}
        for name in self._groups:
            leaves.update(self._unflatten(name, params["posterior"][name]["loc"]))
        return unflatten_dict(leaves)

    def kl(self, params: Params) -> Array:
        """Returns KL(q || prior) in nats, exact and summed over all weights."""
        return sum(
            gaussian_block.kl_to_prior(block, *self._prior_of(params, name))
            for name, block in params["posterior"].items()
        )

    def log_prob(self, params: Params, weights: Params) -> Array:
        """Returns log q(w) in nats of one draw, a params pytree without the leading axis."""
        leaves = flatten_dict(weights)
        total = jnp.zeros(())
        for name, paths in self._groups.items():
            vector = jnp.concatenate([leaves[path].reshape(-1) for path in paths])
            total = total + gaussian_block.log_prob(params["posterior"][name], vector)
        return total

    def forward(
        self, params: Params, x: ArrayLike, key: Key, num_samples: int
    ) -> tuple[distrax.Distribution, Array]:
        """Returns the prediction of each draw (batch shape `[S, B]`) and KL(q || prior)."""
        draws = self.sample(params, key, num_samples)
        predictions = jax.vmap(lambda w: self.model.apply({"params": w}, jnp.asarray(x)))(draws)
        return predictions, self.kl(params)

    def _prior_of(self, params: Params, name: str) -> tuple[Array | float, Array | float]:
        return self.prior.loc_and_scale(params.get("prior", {}).get(name, {}))

    def _sizes(self, name: str) -> list[int]:
        """Running ends of the leaves of a group inside its vector."""
        ends, end = [], 0
        for path in self._groups[name]:
            size = 1
            for axis in self._leaves[path]:
                size *= axis
            end += size
            ends.append(end)
        return ends

    def _unflatten(self, name: str, vector: Array) -> dict[tuple[str, ...], Array]:
        """Cuts `[..., P]` into the leaves of a group, each `[..., *shape]`."""
        pieces = jnp.split(vector, self._sizes(name)[:-1], axis=-1)
        return {
            path: piece.reshape(vector.shape[:-1] + self._leaves[path])
            for path, piece in zip(self._groups[name], pieces, strict=True)
        }

    def __repr__(self) -> str:
        return (
            f"GaussianPosterior({type(self.model).__name__}, covariance={self.covariance!r}, "
            f"{self.num_weights} weights in {len(self._groups)} groups, prior={self.prior})"
        )


def _group(paths: list[tuple[str, ...]], covariance: str) -> dict[str, list[tuple[str, ...]]]:
    """Groups leaves by the module that owns them, or all together; order is that of the paths."""
    if covariance == "full":
        return {"all": paths}
    groups: dict[str, list[tuple[str, ...]]] = {}
    for path in paths:
        groups.setdefault("/".join(path[:-1]) or "top", []).append(path)
    return groups
