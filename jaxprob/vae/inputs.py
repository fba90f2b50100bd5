"""Inputs that are their own targets: what a batch says about missing ones.

    x_observed = where(mask, x, 0),   log p(x | z) = sum over observed i of log p(x_i | z)

Twin: `torch_ref/vae/inputs.py`.
"""

from typing import Any

import distrax
import jax.numpy as jnp

from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.types import Array, Batch

__all__ = ["log_likelihood_of_inputs", "observed_inputs"]


def observed_inputs(batch: Batch) -> Array:
    """Returns `batch["x"]` with 0 where `batch["mask"]` (of the same shape) is False.

    Raises:
      ValueError: A mask of another shape.
    """
    x, mask = jnp.asarray(batch["x"]), batch.get("mask")
    if mask is None:
        return x
    mask = jnp.asarray(mask, bool)
    if mask.shape != x.shape:
        raise ValueError(
            f'batch["mask"] has shape {mask.shape}; expected that of batch["x"], {x.shape}: True '
            "where an input was observed."
        )
    return jnp.where(mask, x, jnp.zeros_like(x))


def log_likelihood_of_inputs(p: Any, batch: Batch, num_leading: int = 0) -> Array:
    """Returns log p(x | z) `[*leading, B]` of the observed inputs, in nats.

    Args:
      p: Distribution over the inputs, batch shape `[*leading, B]`.
      batch: "x" `[B, *event]` and perhaps "mask" of that shape.
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
    return log_likelihood_of_batch(p, {"y": x, "mask": batch.get("mask")}, num_leading)
