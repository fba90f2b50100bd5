"""What went wrong: names the first term that is not finite, after a run has stopped."""

import functools
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.sharding import to_host
from jaxprob.training.data import epoch_order, num_rows, rows_of_batch, step_key
from jaxprob.training.step import newly_infinite, propose
from jaxprob.types import Batch, Key

if TYPE_CHECKING:
    from jaxprob.training.fitted import Fitted
    from jaxprob.training.plan import LoopState, Member, Plan

__all__ = ["NonFiniteError", "raise_non_finite", "step_error", "to_local", "validation_error"]


class NonFiniteError(FloatingPointError, ValueError):
    """Training stopped at a NaN or an infinity; nothing is lost.

    Attributes:
      fitted: The result up to the last finite step.
      term: Name of the first term that is not finite: a metric, "loss", "gradient of ...", or
        "optimizer's step of ...", "optimizer's state ...", or "validation_...".
      step: Number of the step that failed, counted from 0.
      epoch: Its epoch, counted from 0.
      batch: Its batch within the epoch, counted from 0; None for validation data.
      rows: Rows of the data in that batch; None for validation data and for streams.
      member: The first ensemble member that failed, or None.
    """

    def __init__(self, message: str, *, fitted, term, step, epoch, batch, rows, member):
        super().__init__(message)
        self.fitted, self.term, self.member = fitted, term, member
        self.step, self.epoch, self.batch, self.rows = step, epoch, batch, rows


def raise_non_finite(plan: "Plan", state: "LoopState", fitted: "Fitted", data: Batch) -> NoReturn:
    """Repeats the failed step outside the program and raises with what it finds."""
    run = state.member
    member = None
    if plan.ensemble:
        member = int(np.argmin(to_host(run.finite) & to_host(run.valid)))
    run = to_local(run, member)
    if plan.mesh is not None:
        data = {name: jnp.asarray(to_host(value)) for name, value in data.items()}
    data = {n: value[member] if n in plan.per_member else value for n, value in data.items()}
    per_epoch = -(-num_rows(data) // plan.batch_size)
    step = int(run.train.step)
    if not run.valid:
        raise validation_error(fitted, member, step)
    epoch, batch = divmod(step, per_epoch)
    order = epoch_order(run.key, epoch, num_rows(data))
    first = batch * plan.batch_size
    size = min(plan.batch_size, num_rows(data) - first)
    key = step_key(run.key, epoch, batch)
    raise step_error(
        plan,
        run,
        rows_of_batch(data, order, first, size),
        key,
        fitted=fitted,
        place=(epoch, batch),
        rows=np.asarray(order[first : first + size]),
        member=member,
    )


def to_local(run: Any, member: int | None) -> Any:
    """The state of one member as arrays of this process alone, so that it can be looked into."""

    def one(leaf: Any) -> Any:
        leaf = leaf if member is None else leaf[member]
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            words = jnp.asarray(to_host(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaf))
        return jnp.asarray(to_host(leaf))

    return jax.tree.map(one, run)


def step_error(
    plan: "Plan",
    run: "Member",
    batch: Batch,
    key: Key,
    *,
    fitted: "Fitted",
    place: tuple[int, int],
    rows: np.ndarray | None,
    member: int | None,
) -> NonFiniteError:
    """Returns the error of a step that was not finite.

    Args:
      plan: The plan of the run.
      run: The state before that step, of one member.
      batch: Its batch.
      key: Its key.
      fitted: The result so far.
      place: Its epoch and batch.
      rows: Rows of the data in the batch, where that is known.
      member: Number of the member, or None.
    """
    term, value = _first_non_finite(plan, run, batch, key)
    step, (epoch, index) = int(run.train.step), place
    look = "the rows in error.rows" if rows is not None else "that batch"
    fix = f"Try a smaller learning rate, clip the gradient, or look at {look}."
    if step == 0 and not term.startswith(("gradient of", "optimizer's", "the step")):
        fix = (
            "It is so at the params of the start, so no learning rate helps: look for targets "
            f"outside of the support of the model's distribution in {look}, or start elsewhere."
        )
    return NonFiniteError(
        f"training{_who(member)} stopped at step {step} (epoch {epoch}, batch {index}): {term} is "
        f"{value}. The step was not applied; the last finite params are kept in "
        f"error.fitted.params. {fix}",
        fitted=fitted,
        term=term,
        step=step,
        epoch=epoch,
        batch=index,
        rows=rows,
        member=member,
    )


def validation_error(fitted: "Fitted", member: int | None, step: int) -> NonFiniteError:
    """Returns the error of an epoch whose steps were finite and whose validation was not."""
    histories = {
        name: value if member is None else value[:, member]
        for name, value in fitted.history.items()
        if name.startswith("validation_")
    }
    bad = ~np.isfinite(np.stack(list(histories.values())))
    epoch = int(np.argmax(bad.any(axis=0)))
    values = {name: value[epoch] for name, value in histories.items()}
    term = next(name for name, value in values.items() if not np.isfinite(value))
    return NonFiniteError(
        f"training{_who(member)} stopped after epoch {epoch} (step {step}): {term} is "
        f"{values[term]}, though the training itself is finite. The params are kept in "
        "error.fitted.params, those of the best epoch before in error.fitted.best_params. Look at "
        "the validation data, or use a smaller learning rate.",
        fitted=fitted,
        term=term,
        step=step,
        epoch=epoch,
        batch=None,
        rows=None,
        member=member,
    )


def forgotten_error(fitted: "Fitted", member: int | None, step: int) -> NonFiniteError:
    """Returns the error of a step that failed before the checkpoint from which the run went on."""
    return NonFiniteError(
        f"training{_who(member)} stopped at step {step}: it was not finite, in the run that wrote "
        "the checkpoint; that run's error named the term. The last finite params are kept in "
        "error.fitted.params.",
        fitted=fitted,
        term="unknown",
        step=step,
        epoch=None,
        batch=None,
        rows=None,
        member=member,
    )


def _who(member: int | None) -> str:
    return "" if member is None else f" of member {member}"


def _first_non_finite(plan: "Plan", run: "Member", batch: Batch, key: Key) -> tuple[str, str]:
    train = run.train
    step_fn = jax.jit(functools.partial(propose, plan.loss_of(run), plan.optimizer))
    loss, metrics, gradient, new = step_fn(train, batch, key)
    for name, value in {**metrics, "loss": loss}.items():
        if not np.all(np.isfinite(value)):
            return name, str(np.asarray(value))
    for term, tree in {"gradient": gradient, "optimizer's step": new.params}.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            bad = leaf[~jnp.isfinite(leaf)]
            if bad.size:
                return f"{term} of {jax.tree_util.keystr(path)}", f"{bad[0]} ({bad.size} values)"
    before = jax.tree.leaves(train.opt_state)
    after = jax.tree_util.tree_leaves_with_path(new.opt_state)
    for old, (path, leaf) in zip(before, after, strict=True):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            bad = leaf[newly_infinite(old, leaf)]
            if bad.size:
                name = f"optimizer's state {jax.tree_util.keystr(path)}"
                return name, f"{bad[0]} ({bad.size} values)"
    return "the step", "not finite within the program, though it is outside of it"
