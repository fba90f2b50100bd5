"""Deep ensembles: M networks from M starts, each trained on the proper score of its own prediction.

    p(y | x) = 1/M sum_m p(y | x, w_m)

Adversarial training smooths each member: with g = grad_x of the loss, it descends the average of
the loss at x and at

    x' = x + epsilon * range * sign(g)

Members are a leading axis M of params, so `training.fit_ensemble` trains them as one program and
`bayes.predict` takes them as draws.

Twin: `torch_ref/bayes/deep_ensemble.py`. Source: Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles" (2017), algorithm 1.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.batches import inputs_of, mean_over_rows
from jaxprob.nn.apply import as_params, as_variables, initialize
from jaxprob.objectives.likelihood import in_mode, negative_log_likelihood
from jaxprob.objectives.maximum_a_posteriori import Prior, map_loss
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import Array, ArrayLike, Batch, Key, Loss, LossFn, Metrics, Params

__all__ = ["DeepEnsemble"]


class DeepEnsemble:
    """M members of one model.

    Args:
      model: Any Linen module, `apply({"params": w}, x)` -> distribution.
      example: An input of the model, e.g. `x_train[:1]` (a tuple of them for several inputs, or
        a batch); only shapes and dtypes matter.
      num_members: Number of members M; 5 to 10 is usual.

    Raises:
      ValueError: Fewer than one member.
    """

    def __init__(self, model: nn.Module, example: Any, num_members: int):
        require_count("DeepEnsemble", "5 is usual.", num_members=num_members)
        self.model = model
        self.num_members = num_members
        self._example = inputs_of(model, example).on_device()
        self._start = jax.jit(self._init)  # one program in place of a hundred

    def init(self, key: Key) -> Params:
        """Returns M independent starts: member m is initialised by `jax.random.split(key, M)[m]`.

        Returns:
          A params pytree of the model, each leaf with leading axis M. A model with collections
          gives {"params": ..., "collections": ...}.
        """
        return self._start(key)

    def _init(self, key: Key) -> Params:
        def one(member_key: Key) -> Params:
            return as_params(initialize(self.model, member_key, self._example))

        return jax.vmap(one)(jax.random.split(key, self.num_members))

    def loss(
        self,
        adversarial: float | None = None,
        input_range: ArrayLike = 1.0,
        prior: Prior | None = None,
        num_data: int | None = None,
        inputs: Sequence[str] = ("x",),
    ) -> Loss:
        """Returns the loss of one member, for `training.fit_ensemble` (which adds the axis M).

        Args:
          adversarial: Size epsilon of the adversarial step as a share of `input_range`, e.g. 0.01;
            None trains on the data alone.
          input_range: max - min of each input over the training data, one number or an array of
            the shape of one row. Standardised inputs still have a range of several units.
          prior: Prior over the weights (anchors the members together); None for none.
          num_data: Rows N of the whole training set; needed with a prior.
          inputs: Entries of the batch that the model takes, in order; the first one is moved.

        Returns:
          `loss_fn(params, batch, key) -> (loss, metrics)` in nats a row; metrics hold "nll" (of
          the data), with adversarial training "adversarial_nll", with a prior "log_prior".
          `loss_fn.evaluate`, for validation, is the loss of the data as they are. With a prior a
          row counts `batch["weight"]` times, as in `objectives.map_loss`; without one the rows are
          averaged by their weights.

        Raises:
          ValueError: A negative epsilon or range, a prior without `num_data`, or (from the loss)
            inputs that have no gradient or a range of another shape.
        """
        require_count("DeepEnsemble.loss", num_data=num_data)
        if prior is not None and num_data is None:
            raise ValueError(
                "DeepEnsemble.loss: num_data must be the number of rows of the training set where "
                "there is a prior; got None. Write num_data=len(x_train)."
            )
        likelihood = clean = negative_log_likelihood(self.model, inputs)
        if prior is not None and num_data is not None:
            likelihood = in_mode(self.model, inputs, True, mean_over_rows)
            clean = map_loss(self.model, prior, num_data, inputs)
        if adversarial is None:
            return clean
        require_non_negative(
            "DeepEnsemble.loss",
            "The paper takes 0.01 of the range of the inputs.",
            adversarial=adversarial,
        )
        reach = np.asarray(input_range)
        if not (np.isfinite(reach).all() and (reach >= 0).all()):
            raise ValueError(
                "DeepEnsemble.loss: input_range must be finite and not negative; got "
                f"{input_range}. Write np.ptp(x_train, axis=0)."
            )

        step = np.asarray(adversarial * reach)

        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            moved = _adversarial(likelihood, params, batch, key, inputs[0], step)
            loss, metrics = clean(params, batch, key)
            nll, _ = likelihood(params, moved, key)
            half = 0.5 * (nll - metrics["nll"])
            return loss + half, {**metrics, "adversarial_nll": nll}

        return Loss(loss_fn, clean.evaluate, average=clean.average, check=clean.check)

    def sample(
        self, members: Params, key: Key | None = None, num_draws: int | None = None
    ) -> Params:
        """Returns draws for `bayes.predict`: all members once, or draws with replacement.

        Args:
          members: Trained members, leading axis M.
          key: Randomness; needed with `num_draws`.
          num_draws: Number of draws S; None for each member once.

        Returns:
          Draws with leading axis S (or M): params, or a variables dict where there are collections.

        Raises:
          ValueError: Members without the leading axis M, or draws without a key.
        """
        require_count("DeepEnsemble.sample", num_draws=num_draws)
        sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(members)}
        if sizes != {(self.num_members,)}:
            raise ValueError(
                f"DeepEnsemble.sample: every leaf of members needs the leading axis M = "
                f"{self.num_members}; got leading sizes {sorted(sizes)}."
            )
        if isinstance(members, dict) and "collections" in members:
            members = as_variables(members)
        if num_draws is None:
            return members
        if key is None:
            raise ValueError(
                f"DeepEnsemble.sample: num_draws needs a key; got num_draws={num_draws}, key=None. "
                "Leave both out to take each member once."
            )
        chosen = jax.random.randint(key, (num_draws,), 0, self.num_members, jnp.int32)
        return jax.tree.map(lambda leaf: leaf[chosen], members)

    def __repr__(self) -> str:
        return f"DeepEnsemble({type(self.model).__name__}, {self.num_members} members)"


def _adversarial(
    likelihood: LossFn, params: Params, batch: Batch, key: Key, name: str, step: np.ndarray
) -> Batch:
    """The batch with `batch[name]` moved uphill, as a constant: the sign has no gradient."""
    x = jnp.asarray(batch[name])
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f'DeepEnsemble.loss: adversarial training needs a gradient in batch["{name}"], whose '
            f"dtype is {x.dtype}. Write adversarial=None."
        )
    if step.shape not in ((), x.shape[1:]):
        raise ValueError(
            f"DeepEnsemble.loss: input_range has shape {step.shape}; expected one number or the "
            f"shape of a row, {x.shape[1:]}."
        )
    gradient = jax.grad(lambda x: likelihood(params, {**batch, name: x}, key)[0])(x)
    reach = jnp.broadcast_to(jnp.asarray(step, x.dtype), x.shape[1:])
    return {**batch, name: jax.lax.stop_gradient(x + reach[None] * jnp.sign(gradient))}
