"""Likelihood losses: the mean over the batch of -log p(y | x).

Rows may be weighted, targets may be missing (`mask`) or known only as a bound (`censored`).

Twin: `torch_ref/objectives/likelihood.py`. Source for censoring: Klein & Moeschberger, "Survival
Analysis", 2nd ed., section 3.5.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import distrax
import flax.linen as nn
import jax.numpy as jnp

from jaxprob.batches import inputs_of, observed, weighted_mean
from jaxprob.distributions import Distribution, Independent
from jaxprob.distributions.validation import align
from jaxprob.nn.apply import as_variables, call
from jaxprob.objectives.losses import (
    Equivalence,
    binary_cross_entropy,
    cross_entropy,
    likelihood_of,
    mae,
    mse,
    pinball,
    poisson_nll,
)
from jaxprob.objectives.targets import support_check
from jaxprob.types import Array, ArrayLike, Batch, Check, Key, Loss, LossFn, Metrics, Params

__all__ = [
    "Equivalence",
    "binary_cross_entropy",
    "cross_entropy",
    "likelihood_of",
    "log_likelihood",
    "log_likelihood_of_batch",
    "mae",
    "mse",
    "negative_log_likelihood",
    "pinball",
    "poisson_nll",
]


def log_likelihood(distribution: distrax.Distribution, y: ArrayLike, num_leading: int = 0) -> Array:
    """Returns log p(y) for a batch, refusing shapes that would broadcast silently.

    Args:
      distribution: Prediction, batch shape `[*leading, B]`.
      y: Targets of exactly the shape `[B, *event]`.
      num_leading: Leading axes of the distribution (draws, members) that share `y`.

    Returns:
      log p(y) `[*leading, B]` in nats.

    Raises:
      ValueError: A distribution that is none, or targets of another shape.
    """
    y = _targets(distribution, y, num_leading)
    return distribution.log_prob(y)


def log_likelihood_of_batch(
    distribution: distrax.Distribution, batch: Batch, num_leading: int = 0
) -> Array:
    """Returns the log-likelihood of `batch["y"]`, with what the batch says about it.

    Args:
      distribution: Prediction, batch shape `[*leading, B]`.
      batch: "y" `[B, *event]`, and where they apply
        "y_observed" or "mask" `[B, *event]`: True where the target was observed; another one may
        hold anything, NaN too, and adds nothing;
        "censored" `[B, *event]`: 0 where y is the value, 1 where the value is above y (the event
        had not come yet), -1 where it is below y (under the limit of detection).
      num_leading: Leading axes of the distribution (draws, members) that share the targets.

    Returns:
      Sum over the event, `[*leading, B]`, in nats.

    Raises:
      ValueError: No "y", shapes that differ from `y`'s, or a distribution over vectors whose
        elements are not independent, where single ones cannot be left out.
    """
    if not isinstance(batch, Mapping) or batch.get("y") is None:
        got = ", ".join(map(repr, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            'the likelihood needs batch["y"], the targets of the rows; the batch holds '
            f'{got or "nothing"}. Give a dict, {{"x": x, "y": y}}.'
        )
    mask = observed(batch, "y")
    if mask is None and batch.get("censored") is None:
        return log_likelihood(distribution, batch["y"], num_leading)
    y = _targets(distribution, batch["y"], num_leading)
    factors = _factors(distribution)
    mask = _like_y("mask", mask, y)
    censored = _like_y("censored", batch.get("censored"), y)
    seen = jnp.ones(y.shape, bool) if mask is None else mask.astype(bool)
    stand_in = _event_of(factors).astype(y.dtype)  # may have the leading axes of the parameters
    ndim = max(y.ndim, stand_in.ndim)
    shape = jnp.broadcast_shapes(y.shape, stand_in.shape)
    stand_in, seen = (jnp.broadcast_to(align(a, ndim), shape) for a in (stand_in, seen))
    y = jnp.where(seen, align(y, ndim), stand_in)
    terms = factors.log_prob(y)
    if censored is not None:
        censored = jnp.broadcast_to(align(censored, ndim), shape)
        above, below = censored > 0, censored < 0
        terms = jnp.where(above, factors.log_survival_function(y), terms)
        terms = jnp.where(below, factors.log_cdf(y), terms)
    terms = jnp.where(align(seen, terms.ndim), terms, 0.0)
    return jnp.sum(terms, axis=tuple(range(len(distribution.batch_shape), terms.ndim)))


def _targets(distribution: distrax.Distribution, y: ArrayLike, num_leading: int) -> Array:
    if not isinstance(distribution, distrax.Distribution):
        raise ValueError(
            f"the model returned {type(distribution).__name__}; expected a distribution. End the "
            "model with a head of jaxprob.heads."
        )
    y = jnp.asarray(y)
    expected = distribution.batch_shape[num_leading:] + distribution.event_shape
    if y.shape != expected:
        raise ValueError(
            f'batch["y"] has shape {y.shape}, but the model predicts shape {expected} (batch_shape '
            f"{distribution.batch_shape[num_leading:]}, event_shape {distribution.event_shape}). "
            + _shape_fix(y.shape, expected)
        )
    return y


def _shape_fix(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if got == expected[:-1] and expected[-1] == 1:
        return "Write y[:, None] to add the target axis; broadcasting would compare every pair."
    if got[:-1] == expected[:-1] and len(got) == len(expected):
        return f"Set the head's features to {got[-1]}."
    if got[:1] != expected[:1]:
        return 'batch["x"] and batch["y"] must have the same number of rows.'
    return "Reshape y to that shape."


def _factors(distribution: distrax.Distribution) -> Distribution:
    """The distribution of each element of the event, where the elements are independent."""
    if distribution.event_shape == () and isinstance(distribution, Distribution):
        return distribution
    inner = distribution
    while isinstance(inner, Independent):
        inner = inner.distribution
    if inner is not distribution and inner.event_shape == ():
        return distribution.marginal()
    raise ValueError(
        f'batch["mask"] and batch["censored"] speak of single elements of y; {distribution.name} '
        "has dependent ones. Use a head with independent targets, or weigh whole rows by "
        'batch["weight"].'
    )


def _event_of(factors: Distribution) -> Array:
    """Some event of each factor, to stand in for a target that was not observed."""
    inner = getattr(factors, "_inner_point", None)
    if inner is None:
        return jnp.zeros((), factors.dtype)
    return jnp.asarray(inner(*factors._parameters()))


def _like_y(name: str, value: ArrayLike | None, y: Array) -> Array | None:
    if value is None:
        return None
    value = jnp.asarray(value)
    if value.shape != y.shape:
        raise ValueError(
            f'batch["{name}"] has shape {value.shape}; expected that of batch["y"], {y.shape}.'
        )
    return value


def negative_log_likelihood(model: nn.Module, inputs: Sequence[str] = ("x",)) -> Loss:
    """Returns the loss -mean_b log p(y_b | x_b) of a model that returns a distribution.

    Rows with weights are averaged, sum_b weight_b nll_b / sum_b weight_b: nothing stands beside the
    likelihood whose share the scale of the weights could change. A loss with a prior divides by the
    number of rows instead, see `map_loss`.

    Args:
      model: Linen module, `apply({"params": params}, x)` -> distribution with batch shape `[B]`.
      inputs: Entries of the batch that the model takes, in order, e.g. ("x", "exposure"); those
        that it `takes` by name (see `jaxprob.batches`) come beside them.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"nll": loss})`, in nats a row. `batch` holds the
      inputs and "y", and where they apply "weight" `[B]`, "mask" and "censored" `[B, *event]` (see
      `log_likelihood_of_batch`). The key serves randomness inside the model, such as dropout. A
      model with batch statistics is trained as `nn.as_params(variables)`, see
      `jaxprob.nn.apply`; its new "collections" are among the metrics. `loss_fn.evaluate` is
      the same loss with the model in its mode of prediction, for validation.
    """
    return Loss.in_modes(
        lambda train: in_mode(model, inputs, train, weighted_mean),
        average="weight",
        check=check_of(model, inputs),
    )


def in_mode(
    model: nn.Module,
    inputs: Sequence[str],
    train: bool,
    average: Callable[[Array, Batch], Array],
) -> LossFn:
    """Returns the likelihood loss in one mode, its rows averaged by a function of `batches`."""

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        given = inputs_of(model, batch, inputs)
        prediction, collections = call(model, as_variables(params), given, key, train)
        nll = -average(log_likelihood_of_batch(prediction, batch), batch)
        return nll, {"nll": nll} | ({"collections": collections} if collections else {})

    return loss_fn


def check_of(model: nn.Module, inputs: Sequence[str]) -> Check:
    """Returns the check of targets against the support of what a model predicts."""

    def predict(params: Params, batch: Batch) -> Any:
        return call(model, as_variables(params), inputs_of(model, batch, inputs))[0]

    def log_density(params: Params, batch: Batch) -> Array:
        return log_likelihood_of_batch(predict(params, batch), batch)

    reads = (*inputs, *getattr(model, "takes", ()))
    return support_check(predict, log_density, reads=reads)
