"""Inputs that are their own targets: what a batch says about missing ones.

    x as it is read = where(x_observed, x, 0)
    log p(x | z) = sum over observed i of log p(x_i | z)

Sequences have "lengths" too. What stands behind the end of one becomes a copy of its first step: an
event of p(x | z) like any other, whose value and gradient are finite and are then left out.

What a batch says of x is honoured or refused: an entry that changes what the answer means, and
that no method of the model has an argument for, ends in an error.

Twin: `torch_ref/vae/inputs.py`.
"""

import inspect
from typing import Any

import distrax
import jax.numpy as jnp

from jaxprob.batches import accepted, extra_inputs, observed, valid_steps, without_padding
from jaxprob.distributions import Independent
from jaxprob.distributions.convert import convert_outputs
from jaxprob.nn.apply import mode_options
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.types import Array, Batch

__all__ = ["hand_on", "inputs_beside", "log_likelihood_of_inputs", "observed_inputs", "read"]

PACKAGE = __name__.rpartition(".")[0]

READERS = ("__call__", "encode", "decode", "prior", "infer", "code", "generate", "sample_prior")
"""Methods that may have an argument for an entry of the batch."""


def inputs_beside(model: Any, batch: Batch) -> dict[str, Array]:
    """Returns what a model takes beside x, by name, see `batches.extra_inputs`.

    Raises:
      ValueError: What `extra_inputs` refuses, and an entry that the model says it takes although
        none of its methods has an argument for it.
    """
    extra = extra_inputs(model, batch)
    for name in extra:
        own = any(_has_argument(model, method, name) for method in READERS)
        parts = (getattr(model, part, None) for part in getattr(model, "hands_on_to", ()))
        if not own and not any(_has_argument(part, "__call__", name) for part in parts):
            raise ValueError(
                f'{type(model).__name__} says that it takes "{name}", but none of its methods has '
                f"an argument {name}: it would be read by nobody. Write a subclass whose encode or "
                f'decode has one, or leave batch["{name}"] out.'
            )
    return extra


def hand_on(module: Any, x: Any, train: bool, given: dict[str, Any]) -> Any:
    """Calls a part of a model in its mode, with what it has arguments for of what is given."""
    given = accepted(type(module).__call__, given)
    return convert_outputs(module(x, **given, **mode_options(module, train)))


def read(model: Any, batch: Batch) -> tuple[Array, dict[str, Array]]:
    """Returns `observed_inputs` and `inputs_beside`; lengths that nobody reads need not fit x."""
    if "lengths" in getattr(model, "takes", ()):
        x = observed_inputs(batch)
        return x, inputs_beside(model, batch)
    beside = inputs_beside(model, batch)
    return observed_inputs(batch), beside


def _has_argument(model: Any, method: str, name: str) -> bool:
    function = getattr(type(model), method, None)
    if function is None:
        return False
    parameters = inspect.signature(function).parameters
    open_to_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    # those of this package hand on what they are given
    return name in parameters or (open_to_all and not function.__module__.startswith(PACKAGE))


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
    if not isinstance(p, Independent):
        raise ValueError(
            f'batch["lengths"] counts steps, but p(x | z) is {type(p).__name__} over all of '
            f"{p.event_shape} together. End the decoder with Independent(head of each step, 1)."
        )
    valid = valid_steps('batch["lengths"]', batch["lengths"], *x.shape[:2])
    steps = log_likelihood_of_batch(p.distribution, targets, num_leading)
    valid = valid.reshape((1,) * num_leading + valid.shape)
    return jnp.sum(jnp.where(valid, steps, 0.0), axis=-1)
