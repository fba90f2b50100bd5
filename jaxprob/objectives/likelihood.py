"""Likelihood losses: the mean over the batch of -log p(y | x).

Twin: `torch_ref/objectives/likelihood.py`.
"""

import distrax
import flax.linen as nn
import jax.numpy as jnp

from jaxprob.types import Array, ArrayLike, Batch, Key, LossFn, Metrics, Params

__all__ = ["log_likelihood", "negative_log_likelihood", "weighted_mean"]


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
    return distribution.log_prob(y)


def _shape_fix(got: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if got == expected[:-1] and expected[-1] == 1:
        return "Write y[:, None] to add the target axis; broadcasting would compare every pair."
    if got[:-1] == expected[:-1] and len(got) == len(expected):
        return f"Set the head's features to {got[-1]}."
    if got[:1] != expected[:1]:
        return 'batch["x"] and batch["y"] must have the same number of rows.'
    return "Reshape y to that shape."


def weighted_mean(values: Array, batch: Batch) -> Array:
    """Returns the mean of `values` `[..., B]`, its rows weighted by `batch["weight"]` if there."""
    weight = batch.get("weight")
    if weight is None:
        return jnp.mean(values)
    weight = jnp.asarray(weight, values.dtype)
    if weight.shape != values.shape[-1:]:
        raise ValueError(
            f'batch["weight"] has shape {weight.shape}; expected one weight for each row, '
            f"{values.shape[-1:]}."
        )
    shares = (weight / jnp.sum(weight)).reshape((1,) * (values.ndim - 1) + (-1,))
    return jnp.mean(jnp.sum(values * shares, axis=-1))


def negative_log_likelihood(model: nn.Module) -> LossFn:
    """Returns the loss -mean_b log p(y_b | x_b) of a model that returns a distribution.

    Args:
      model: Linen module, `apply({"params": params}, x)` -> distribution with batch shape `[B]`.

    Returns:
      `loss_fn(params, batch, key) -> (loss, {"nll": loss})`, in nats a row. `batch` holds "x", "y"
      and optionally "weight" `[B]`. The key is not used.
    """

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        del key
        log_prob = log_likelihood(model.apply({"params": params}, batch["x"]), batch["y"])
        nll = -weighted_mean(log_prob, batch)
        return nll, {"nll": nll}

    return loss_fn
