"""Whether the run whose weights were gathered has diverged.

Weights that SGD reaches while it blows up are numbers like others, and a Gaussian around them
predicts nonsense. Two signs of it: the loss at the weights that were gathered is above the loss of
the first step, or their spread is several times their size, as where each iterate is a multiple of
the one before.

Twin: none; the twin keeps all iterates, and whoever reads them sees it.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.types import Array, Params

__all__ = ["check_run", "no_losses", "with_loss"]

WIDE = 3.0
"""Spread of the iterates over the size of their mean from which a run is said to diverge; runs on
tabular data that predict well have .03 to .4."""

FIX = "Lower the learning rate, or gather from a later start."


def no_losses() -> Array:
    """Returns the losses `[2]` of a run before its first step: at that step, and where gathered."""
    return jnp.full((2,), jnp.nan, jnp.float32)


def with_loss(
    losses: Any, step: Array, count: Array, taken: Array, extra: Mapping[str, Any]
) -> Any:
    """Returns the losses after a step.

    Args:
      losses: Those before it.
      step: Number of steps taken, this one included.
      count: Number of iterates gathered, this one included.
      taken: Whether this one was.
      extra: What the loop hands the optimiser; its "value" is the loss.
    """
    if losses is None or extra.get("value") is None:
        return losses
    value = jnp.asarray(extra["value"], losses.dtype)
    first = jnp.where(step == 1, value, losses[0])
    before = jnp.where(count <= 1, value, losses[1])
    mean = before + (value - before) / jnp.maximum(count, 1).astype(losses.dtype)
    return jnp.stack([first, jnp.where(taken, mean, losses[1])])


def check_run(owner: str, losses: Any, mean: Params, variance: Params | None = None) -> None:
    """Refuses weights that are not finite, and warns of those of a run that diverged.

    Args:
      owner: Who asks.
      losses: Of the run `[2]`, of an ensemble `[M, 2]`, or None.
      mean: Weights.
      variance: Their variance over the iterates.

    Raises:
      ValueError: Weights that are not finite.
    """
    leaves = jax.tree_util.tree_leaves_with_path((mean, variance))
    if any(isinstance(leaf, jax.core.Tracer) for _, leaf in leaves):
        return
    for path, leaf in leaves:
        if not np.isfinite(np.asarray(leaf)).all():
            name = jax.tree_util.keystr(path[1:], simple=True, separator="/") or "the weights"
            raise ValueError(f"{owner}: what was gathered of {name} is not finite. {FIX}")
    if losses is not None and not isinstance(losses, jax.core.Tracer):
        first, gathered = np.moveaxis(np.atleast_2d(np.asarray(losses)), -1, 0)
        worse = gathered > first  # False where one of the two is unknown
        if worse.any():
            at = int(np.argmax(worse))
            of = f" of member {at}" if len(worse) > 1 else ""
            warnings.warn(
                f"{owner}: the loss{of} is {gathered[at]:.4g} on average at the weights that were "
                f"gathered, and was {first[at]:.4g} at the first step, so the run has diverged. "
                f"{FIX}",
                stacklevel=3,
            )
            return
    if variance is not None:
        spread = np.sqrt(_sum(variance))
        size = np.sqrt(_sum(jax.tree.map(np.square, mean)))
        if spread > WIDE * size > 0:
            warnings.warn(
                f"{owner}: the weights that were gathered spread by {spread / size:.3g} times the "
                f"size of their mean, so the run has diverged. {FIX}",
                stacklevel=3,
            )


def _sum(tree: Any) -> float:
    return float(sum(np.sum(np.asarray(leaf), dtype=np.float64) for leaf in jax.tree.leaves(tree)))
