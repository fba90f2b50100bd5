"""What a loss and an optimiser must be, and what a loss may read and return."""

import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxprob.types import Array, Batch, Params

__all__ = [
    "COLLECTIONS",
    "checked_result",
    "explain_key_error",
    "require_loss",
    "require_optimizer",
]

COLLECTIONS = "collections"

VALIDATION = "validation_"
"""How the names of the numbers on the validation data begin."""


def require_loss(owner: str, loss_fn: Any) -> None:
    """Raises a `ValueError` for what cannot be called as `loss_fn(params, batch, key)`.

    Args:
      owner: Who asks, for messages.
      loss_fn: What was given as the loss.
    """
    expected = f"{owner}: loss_fn must be a function loss_fn(params, batch, key) -> (loss, metrics)"
    if isinstance(loss_fn, nn.Module):
        raise ValueError(
            f"{expected}; got a model, {type(loss_fn).__name__}. Give a loss of it, such as "
            "objectives.negative_log_likelihood(model) or vae.negative_elbo(model)."
        )
    if not callable(loss_fn):
        raise ValueError(f"{expected}; got {_kind(loss_fn)}.")
    try:
        signature = inspect.signature(loss_fn)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(None, None, None)
    except TypeError as error:
        name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
        raise ValueError(
            f"{expected}; {name}{signature} takes other arguments ({error}). A function that "
            "makes a loss is called first, as in objectives.negative_log_likelihood(model)."
        ) from None


def require_optimizer(owner: str, optimizer: Any) -> None:
    """Raises a `ValueError` for what has no `init` and `update`, as an optax transformation has."""
    if callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)):
        return
    fix = "Write optax.adam(1e-3), or optim.adam(1e-3)."
    if isinstance(optimizer, (int, float)) and not isinstance(optimizer, bool):
        fix = f"For this learning rate write optax.adam({optimizer})."
    elif callable(optimizer):
        fix = "Call it with its learning rate, as in optax.adam(1e-3)."
    got = getattr(optimizer, "__name__", None) or repr(optimizer)
    raise ValueError(f"{owner}: optimizer must be an optax transformation; got {got:.80}. {fix}")


def checked_result(returned: Any) -> tuple[Array, dict[str, Any]]:
    """Returns the loss and its metrics, collections among them.

    Args:
      returned: What the loss returned.

    Raises:
      ValueError: Anything but a real scalar and a dict of scalars; a metric that bears the name of
        the loss or of a number on the validation data, and would stand in its place.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ValueError(
            f"training: the loss returned {_kind(returned)}; expected a pair (loss, metrics). "
            "Write `return loss, {}` where there is nothing to report beside the loss."
        )
    loss, metrics = returned
    if not isinstance(metrics, Mapping):
        raise ValueError(
            f"training: the metrics of the loss are {_kind(metrics)}; expected a dict of scalars. "
            "Write `return loss, {}` where there is nothing to report beside the loss."
        )
    if isinstance(loss, (Mapping, tuple, list)) or jnp.shape(loss) != ():
        raise ValueError(
            f"training: the loss is {_kind(loss)}; expected one number. Write jnp.mean(loss), or "
            "the weighted mean over the rows of the batch."
        )
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise ValueError(
            f"training: the loss has dtype {jnp.result_type(loss)}; expected a float, of which "
            "there is a gradient. Compute it from the params in floats."
        )
    for name, value in metrics.items():
        if name == COLLECTIONS:
            continue
        if name == "loss" or str(name).startswith(VALIDATION):
            raise ValueError(
                f'training: the loss reports a metric named "{name}", which is the name of '
                + ("the loss itself" if name == "loss" else "a number on the validation data")
                + " in the history. Give the metric another name."
            )
        if isinstance(value, (Mapping, tuple, list)) or jnp.shape(value) != ():
            raise ValueError(
                f'training: the metric "{name}" is {_kind(value)}; expected one number, which the '
                "history holds for each epoch. Report its mean, or one metric for each element."
            )
    return loss, dict(metrics)


def explain_key_error(error: KeyError, params: Params, batch: Batch) -> None:
    """Raises a `ValueError` that says more, where the loss looked for an entry that is not there.

    Args:
      error: What the loss raised.
      params: What it was given.
      batch: Likewise.
    """
    (name,) = error.args if len(error.args) == 1 else (None,)
    if not isinstance(name, str) or name in batch:
        return
    if name == "step":
        raise ValueError(
            'training: the loss reads batch["step"], but has no attribute uses_step = True, so '
            "nobody counts for it. Where it wraps another loss, wrap it with functools.wraps or "
            "set loss_fn.uses_step = True on the wrapper."
        ) from error
    held = ", ".join(f'"{entry}"' for entry in batch)
    alike = next((entry for entry in batch if str(entry).lower() == name.lower()), None)
    if alike is not None:
        raise ValueError(
            f'training: the loss reads batch["{name}"], which is not there; the data hold {held}. '
            f'Rename the entry "{alike}" of the data (and of the validation data) to "{name}".'
        ) from error
    if name in ("x", "y"):
        raise ValueError(
            f'training: the loss reads batch["{name}"], which is not there; the data hold {held}. '
            f'Name the entries of the data as the loss reads them, such as {{"x": x, "y": y}}.'
        ) from error


def _kind(value: Any) -> str:
    if hasattr(value, "dtype"):
        return f"an array {value.dtype}{list(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"a {type(value).__name__}"
