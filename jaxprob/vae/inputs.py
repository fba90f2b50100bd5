"""Inputs that are their own targets: what a batch says about missing ones.

    x_observed = where(mask, x, 0),   log p(x | z) = sum over observed i of log p(x_i | z)

Twin: `torch_ref/vae/inputs.py`.
"""

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


def log_likelihood_of_inputs(p: distrax.Distribution, batch: Batch) -> Array:
    """Returns log p(x | z) `[B]` of the observed inputs.

    Args:
      p: Distribution over the inputs, batch shape `[B]`.
      batch: "x" `[B, *event]` and perhaps "mask" of that shape.
    """
    return log_likelihood_of_batch(p, {"y": observed_inputs(batch), "mask": batch.get("mask")})
