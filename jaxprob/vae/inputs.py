"""Inputs that are their own targets: what a batch says about missing ones.

    x as it is read = where(x_observed, x, 0)
    log p(x | z) = sum over observed i of log p(x_i | z)

Sequences have "lengths" too. What stands behind the end of one becomes a copy of its first step: an
event of p(x | z) like any other, whose value and gradient are finite and are then left out.

Twin: `torch_ref/vae/inputs.py`.
"""

from typing import Any

import distrax
import jax.numpy as jnp

from jaxprob.batches import observed, valid_steps, without_padding
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.types import Array, Batch

__all__ = ["log_likelihood_of_inputs", "observed_inputs"]


def observed_inputs(batch: Batch) -> Array:
    """Returns `batch["x"]` with 0 where "x_observed" or "mask" (of the same shape) is False.

    Padding of sequences with "lengths" is replaced, see `without_padding`.

    Raises:
      ValueError: A mask of another shape, or wrong lengths.
    """
    x = without_padding(batch["x"], batch.get("lengths"), 'batch["lengths"]')
    mask = observed(batch, "x")
    if mask is None:
        return x
    mask = jnp.asarray(mask, bool)
    if mask.shape != x.shape:
        raise ValueError(
            f'batch["mask"] has shape {mask.shape}; expected that of batch["x"], {x.shape}: True '
            "where an input was observed."
        )
    return jnp.where(without_padding(mask, batch.get("lengths")), x, jnp.zeros_like(x))


def log_likelihood_of_inputs(p: Any, batch: Batch, num_leading: int = 0) -> Array:
    """Returns log p(x | z) `[*leading, B]` of what was observed of the inputs, in nats.

    Args:
      p: Distribution over the inputs, batch shape `[*leading, B]`; with "lengths" it is
        `Independent` over its steps, and the valid ones count.
      batch: "x" `[B, *event]` and where they apply "x_observed" (or "mask") of that shape and
        "lengths" `[B]`.
      num_leading: Leading axes of the distribution (draws) that share the inputs.

    Raises:
      ValueError: A decoder that returns no distribution, or one over another shape than that of x.
    """
    if not isinstance(p, distrax.Distribution):
        raise ValueError(
            f"the decoder returned {type(p).__name__}; expected a distribution. End the decoder "
            "with a head of jaxprob.heads."
        )
    x = observed_inputs(batch)
    expected = (*p.batch_shape[num_leading:], *p.event_shape)
    if x.shape != expected:
        raise ValueError(
            f'batch["x"] has shape {x.shape}, but p(x | z) of the decoder is over {expected}. Give '
            "its head as many features as x has, or reshape x."
        )
    targets = {"y": x, "y_observed": observed(batch, "x")}
    if batch.get("lengths") is None:
        return log_likelihood_of_batch(p, targets, num_leading)
    valid = valid_steps('batch["lengths"]', batch["lengths"], *x.shape[:2])
    steps = log_likelihood_of_batch(p.distribution, targets, num_leading)
    valid = valid.reshape((1,) * num_leading + valid.shape)
    return jnp.sum(jnp.where(valid, steps, 0.0), axis=-1)
