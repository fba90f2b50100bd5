"""What went wrong: names the first term that is not finite, after a run has stopped."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.training.data import epoch_order, num_rows, rows_of_batch, step_key
from jaxprob.training.step import TrainState
from jaxprob.types import Batch, Key

if TYPE_CHECKING:
    from jaxprob.training.fit import Fitted
    from jaxprob.training.loop import LoopState, Plan

__all__ = ["NonFiniteError", "raise_non_finite"]


class NonFiniteError(FloatingPointError, ValueError):
    """Training stopped at a NaN or an infinity; nothing is lost.

    Attributes:
      fitted: The result up to the last finite step.
      term: Name of the first term that is not finite: a metric, "loss", "gradient of ...", or
        "optimizer's step of ...".
      step: Number of the step that failed, counted from 0.
      epoch: Its epoch, counted from 0.
      batch: Its batch within the epoch, counted from 0.
      rows: Rows of the data in that batch.
      member: The first ensemble member that failed, or None.
    """

    def __init__(self, message: str, *, fitted, term, step, epoch, batch, rows, member):
        super().__init__(message)
        self.fitted, self.term, self.member = fitted, term, member
        self.step, self.epoch, self.batch, self.rows = step, epoch, batch, rows


def raise_non_finite(plan: "Plan", state: "LoopState", fitted: "Fitted", data: Batch) -> None:
    """Repeats the failed step outside the program and raises with what it finds."""
    run = state.member
    member = None
    if plan.ensemble:
        member = int(np.argmin(run.finite))
        run = jax.tree.map(lambda leaf: leaf[member], run)
    per_epoch = -(-num_rows(data) // plan.batch_size)
    step = int(run.train.step)
    epoch, batch = divmod(step, per_epoch)
    order = epoch_order(run.key, epoch, num_rows(data))
    first = batch * plan.batch_size
    size = min(plan.batch_size, num_rows(data) - first)
    key = step_key(run.key, epoch, batch)
    term, value = _first_non_finite(plan, run.train, rows_of_batch(data, order, first, size), key)
    who = "" if member is None else f" of member {member}"
    raise NonFiniteError(
        f"training{who} stopped at step {step} (epoch {epoch}, batch {batch}): {term} is {value}. "
        "The step was not applied; the last finite params are kept in error.fitted.params. Try a "
        "smaller learning rate, clip the gradient, or look at the rows in error.rows.",
        fitted=fitted,
        term=term,
        step=step,
        epoch=epoch,
        batch=batch,
        rows=np.asarray(order[first : first + size]),
        member=member,
    )


def _first_non_finite(plan: "Plan", train: TrainState, batch: Batch, key: Key) -> tuple[str, str]:
    grad_fn = jax.jit(jax.value_and_grad(plan.loss_fn, has_aux=True))
    (loss, metrics), gradient = grad_fn(train.params, batch, key)
    for name, value in {**metrics, "loss": loss}.items():
        if not np.all(np.isfinite(value)):
            return name, str(np.asarray(value))
    updates, _ = plan.optimizer.update(gradient, train.opt_state, train.params)
    params = optax.apply_updates(train.params, updates)
    for term, tree in {"gradient": gradient, "optimizer's step": params}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            bad = leaf[~jnp.isfinite(leaf)]
            if bad.size:
                return f"{term} of {jax.tree_util.keystr(path)}", f"{bad[0]} ({bad.size} values)"
    return "the sum of loss, gradient and params", "not finite (an overflow)"
