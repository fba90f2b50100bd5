"""Monte Carlo dropout: a network trained with dropout, read as a variational posterior.

A draw is the network under one set of unit masks, z ~ Bernoulli(1 - rate):

    h_{l+1} = f(W_l (h_l * z_l) / (1 - rate))

so one draw is one function: every row, in whatever batch it comes, sees the same masks. In training
each row has masks of its own, fresh for each step. The key of the i-th dropout layer, in the order
of the calls, is `fold_in(key, i)`, wherever the layer sits and whatever key it was handed.

Which weight decay and noise a rate goes with says `objectives.dropout_precision`; the prior of a
weight decay, for `loss(prior=...)`, is `objectives.prior_for_weight_decay`.

Twin: `torch_ref/bayes/dropout.py`. Source: Gal & Ghahramani, "Dropout as a Bayesian approximation"
(ICML 2016), section 3; one mask for a whole sequence: Gal & Ghahramani, "A theoretically grounded
application of dropout in recurrent neural networks" (2016).
"""

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import inputs_of, mean_over_rows, weighted_mean
from jaxprob.distributions.convert import convert_outputs
from jaxprob.nn import Dropout
from jaxprob.nn.apply import as_params, as_variables, call, initialize, mode_options
from jaxprob.nn.initializers import param_dtype
from jaxprob.objectives.likelihood import log_likelihood_of_batch, negative_log_likelihood
from jaxprob.objectives.maximum_a_posteriori import Prior, fixed_prior
from jaxprob.objectives.priors import HierarchicalGaussianPrior
from jaxprob.operations.linen import fast_convolutions
from jaxprob.requirements import require_count, require_in
from jaxprob.types import AnyArray, Array, Batch, Key, Loss, LossFn, Metrics, Params

__all__ = ["DropoutModel", "MCDropout"]

MASKS = "dropout"
"""Name of the collection that holds the key of the masks, as `{"key_data": [2]}`."""


class DropoutModel(nn.Module):
    """A model whose dropout masks are decided from outside, by the variables that it is given.

    With the collection "dropout" the masks are those of its key; without it no unit is dropped.
    All other collections are the model's own.

    Attributes:
      model: The model.
      rate: Rate of all its dropout layers; None for each layer's own.
      train: Whether each row has masks of its own and the model is in its training mode, or all
        rows share their masks: masks of shape `[1, ...]` for activations `[B, ...]`. So a draw of a
        convolutional network drops single pixels of its feature maps, and that of a sequence model
        single steps, unless the layer's `broadcast_dims` share them along those axes; a layer
        inside the cell of `nn.RNN` has one mask for all steps.
    """

    model: nn.Module
    rate: float | None = None
    train: bool = False

    def setup(self):
        """Puts the variables of the model at the top, where its own `init` has them."""
        nn.share_scope(self, self.model)

    @property
    def wrapped(self) -> nn.Module:
        """The model that is called."""
        return self.model

    @property
    def takes(self) -> tuple[str, ...]:
        """What the model takes by name."""
        return getattr(self.model, "takes", ())

    def __call__(self, *inputs: AnyArray, **extra: AnyArray) -> Any:
        """Returns what the model returns under the masks."""
        options = {**extra, **mode_options(self.model, self.train)}
        key = None
        if self.has_variable(MASKS, "key_data"):
            key = jax.random.wrap_key_data(self.get_variable(MASKS, "key_data"))
        if "key" in inspect.signature(type(self.model).__call__).parameters:
            options["key"] = key
        with nn.intercept_methods(_masks(key, self.rate, self.train)), fast_convolutions():
            return self.model(*inputs, **options)


class MCDropout:
    """The posterior that dropout stands for.

    Args:
      model: Any Linen module that returns a distribution and calls `flax.linen.Dropout` or
        `jaxprob.nn.Dropout`, in prediction too: its argument `train` or `deterministic`, if it has
        one, may switch them off but must not go round them. Activations lead with the batch.
      example: An input of the model, e.g. `x_train[:1]` (a tuple of them for several inputs, or
        a batch).
      rate: Probability that a unit is dropped, for all layers; None for each layer's own.

    Attributes:
      model: The `DropoutModel` that `bayes.predict` takes; with `{"params": params}` alone it is
        the mean network, in which nothing is dropped.

    Raises:
      ValueError: A rate outside [0, 1), a model without dropout, or one that drops inside its
        attention, where no layer's mask could be held fixed.
    """

    def __init__(self, model: nn.Module, example: Any, rate: float | None = None):
        require_in("MCDropout", "[0, 1)", "Write None for the rates of the layers.", rate=rate)
        self.model = DropoutModel(model, rate)
        self._training_model = DropoutModel(model, rate, train=True)
        self._example = inputs_of(model, example).on_device()
        calls = []

        def count(next_fn: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
            if _is_dropout(context):
                calls.append(context.module.name)
            return next_fn(*args, **kwargs)

        # Of two interceptors the outer one is asked first, so this one sees what the masks replace.
        with nn.intercept_methods(count):
            jax.eval_shape(self._init, jax.random.key(0))
        if not calls:
            raise ValueError(
                f"MCDropout: {type(model).__name__} calls no dropout layer in prediction. Add "
                "nn.Dropout(rate) between its layers, and call it whatever `train` is."
            )
        self._start = jax.jit(self._init)  # one program in place of a hundred

    def init(self, key: Key) -> Params:
        """Returns the params at the start, the model's own initialisation.

        A model with collections gives {"params": ..., "collections": ...}.
        """
        return self._start(key)

    def _init(self, key: Key) -> Params:
        return as_params(initialize(self.model, key, self._example))

    def loss(
        self,
        prior: Prior | HierarchicalGaussianPrior | None = None,
        num_data: int | None = None,
        inputs: Sequence[str] = ("x",),
    ) -> Loss:
        """Returns the training loss: each row under masks of its own.

            loss(w) = -1/B sum_b weight_b log p(y_b | x_b, w, z_b) - 1/N log p(w)

        With a prior a row counts `batch["weight"]` times, as in `objectives.map_loss`; without one
        rows are averaged by their weights, as in `objectives.negative_log_likelihood`.

        Args:
          prior: Prior over the weights, e.g. `objectives.prior_for_weight_decay(c, N)`; None for
            none, or where the optimiser decays the weights.
          num_data: Rows N of the whole training set; needed with a prior.
          inputs: Entries of the batch that the model takes, in order.

        Returns:
          `loss_fn(params, batch, key) -> (loss, metrics)` in nats a row; metrics hold "nll", and
          where there is a prior "log_prior". `loss_fn.evaluate`, for validation, is that of the
          mean network.

        Raises:
          ValueError: A prior without a number of rows, or with learned parts.
        """
        require_count("MCDropout.loss", num_data=num_data)
        if prior is not None and not (num_data is not None and num_data >= 1):
            raise ValueError(
                "MCDropout.loss: num_data must be the number of rows of the training set where "
                f"there is a prior; got {num_data}. Write num_data=len(x_train)."
            )
        fixed = None if prior is None else fixed_prior("MCDropout.loss", prior)
        model = self.model.model
        average = weighted_mean if fixed is None else mean_over_rows

        def in_mode(train: bool) -> LossFn:
            def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
                variables, given = as_variables(params), inputs_of(model, batch, inputs)
                state = {}
                if train:
                    others = [name for name in variables if name != "params"]
                    masked = {**variables, **_key_variables(key)}
                    prediction, state = self._training_model.apply(
                        masked, *given.arrays, mutable=others, **given.extra
                    )
                    prediction = convert_outputs(prediction)
                else:
                    prediction, _ = call(self.model, variables, given)
                nll = -average(log_likelihood_of_batch(prediction, batch), batch)
                metrics: dict[str, Any] = {"nll": nll}
                loss = nll
                if fixed is not None and num_data is not None:
                    metrics["log_prior"] = fixed.log_prob(variables["params"])
                    loss = nll - metrics["log_prior"] / num_data
                if state:
                    metrics["collections"] = dict(state)
                return loss, metrics

            return loss_fn

        check = negative_log_likelihood(self.model, inputs).check
        average_of_parts = "weight" if fixed is None else "rows"
        return Loss.in_modes(in_mode, average=average_of_parts, check=check)

    def sample(self, params: Params, key: Key, num_draws: int = 1) -> Params:
        """Returns draws for `bayes.predict(mc.model, draws, x)`: the weights, and a key for each.

        Args:
          params: Trained params.
          key: Draw s has the masks of `jax.random.split(key, S)[s]`.
          num_draws: Number of draws S.

        Returns:
          {"params": ..., "dropout": {"key_data": [S, 2]}} and the model's other collections, the
          weights broadcast to the leading axis S.

        Raises:
          ValueError: Fewer than one draw.
        """
        require_count("MCDropout.sample", num_draws=num_draws)
        repeated = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_draws, *jnp.shape(leaf))),
            as_variables(params),
        )
        keys = jax.random.split(key, num_draws)
        return {**repeated, **_key_variables(keys)}

    def mean(self, params: Params) -> Params:
        """Returns the variables of the mean network, for `mc.model.apply(variables, x)`."""
        return as_variables(params)

    def __repr__(self) -> str:
        rate = "the layers' own rates" if self.model.rate is None else f"rate={self.model.rate}"
        return f"MCDropout({type(self.model.model).__name__}, {rate})"


def _key_variables(key: Key) -> dict[str, dict[str, Array]]:
    return {MASKS: {"key_data": jax.random.key_data(key)}}


def _is_dropout(context: Any) -> bool:
    return context.method_name == "__call__" and isinstance(context.module, (nn.Dropout, Dropout))


def _masks(key: Key | None, rate: float | None, by_row: bool) -> Callable:
    """Returns an interceptor that stands in for each dropout layer; without a key it drops none."""
    calls = itertools.count()

    def interceptor(next_fn: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, nn.MultiHeadDotProductAttention) and layer.dropout_rate > 0:
            raise ValueError(
                f"MCDropout: {layer.name} drops attention weights by itself, where a mask cannot "
                "be held fixed. Set its dropout_rate to 0 and put nn.Dropout behind it."
            )
        if not _is_dropout(context):
            return next_fn(*args, **kwargs)
        x = jnp.asarray(args[0] if args else kwargs.get("x", kwargs.get("inputs")))
        share = layer.rate if rate is None else rate
        number = next(calls)
        if key is None or share == 0.0:
            return x
        if share == 1.0:  # x / 0 below would give NaN gradients
            return jnp.zeros_like(x)
        shape = list(x.shape)
        for axis in (*getattr(layer, "broadcast_dims", ()), *(() if by_row else (0,))):
            shape[axis] = 1
        keep = jnp.asarray(1.0 - share, param_dtype(x))
        kept = jax.random.bernoulli(jax.random.fold_in(key, number), keep, tuple(shape))
        return jnp.where(jnp.broadcast_to(kept, x.shape), x / (1.0 - share), 0)

    return interceptor
