"""The compiled training loop: epochs of shuffled minibatches as one program.

The program runs up to a given epoch and stops by itself: when a step is not finite, when the
validation loss has not improved for `patience` epochs, or when the steps are spent. The number of
epochs of a call is an argument rather than a constant, so one compilation serves all calls and the
host looks in as often as it likes. An ensemble is the same epoch under `vmap`.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxprob.sharding import (
    MEMBER,
    member_sharding,
    same_everywhere,
    shares_members,
    split_rows,
)
from jaxprob.training.data import epoch_order, num_rows, rows_of_batch, step_key
from jaxprob.training.plan import LoopState, Member, Plan, Running
from jaxprob.training.programs import Programs
from jaxprob.training.step import apply_gradient, evaluate, remains_finite
from jaxprob.types import Array, Batch, Key, LossFn, Metrics

__all__ = [
    "counted_step",
    "end_of_epoch",
    "every_epoch",
    "over_members",
    "run_epochs",
]


def _run_epochs(
    state: LoopState, until: Array, data: Batch, validation: Batch | None, *, plan: Plan
) -> LoopState:
    """Runs epochs until number `until`, or until every member has stopped."""

    def unfinished(state: LoopState) -> Array:
        return (state.epoch < until) & jnp.any(state.member.active)

    def body(state: LoopState) -> LoopState:
        member, metrics = every_epoch(state.member, state.epoch, data, validation, plan=plan)
        history = {name: state.history[name].at[state.epoch].set(m) for name, m in metrics.items()}
        return LoopState(member, state.epoch + 1, history)

    return _keep_places(plan, jax.lax.while_loop(unfinished, body, state))


run_epochs = Programs(_run_epochs, ("plan",), donate_argnames="state")


def _keep_places(plan: Plan, state: LoopState) -> LoopState:
    """Says inside the program what `on_mesh` says outside."""
    if plan.mesh is None:
        return state
    first = member_sharding(plan.mesh, plan.ensemble)
    second = member_sharding(plan.mesh, plan.ensemble, axis=1)
    constrain = jax.lax.with_sharding_constraint
    return LoopState(
        jax.tree.map(lambda leaf: constrain(leaf, first), state.member),
        constrain(state.epoch, NamedSharding(plan.mesh, PartitionSpec())),
        jax.tree.map(lambda leaf: constrain(leaf, second), state.history),
    )


def _every_epoch(
    member: Member, epoch: Array, data: Batch, validation: Batch | None, *, plan: Plan
) -> tuple[Member, Metrics]:
    """Runs one epoch of all members; returns them and their metrics."""
    epoch_fn = functools.partial(_epoch, plan)
    if plan.ensemble:
        epoch_fn = over_members(
            plan, epoch_fn, (True, False, plan.leads(data), plan.leads(validation))
        )
    return epoch_fn(member, epoch, data, validation)


# Jitted, so that a run like one before is not traced again for the names of its metrics.
every_epoch = Programs(_every_epoch, ("plan",), inline=True)


def over_members(plan: Plan, fn: Any, leads: tuple[Any, ...]) -> Any:
    """Maps a function over members: each device runs its own share of them, without the others.

    Args:
      plan: The plan of the run.
      fn: A function of one member.
      leads: For each argument (or each entry of it, as a dict), whether it leads with M; results
        all do.
    """
    mapped = jax.vmap(fn, in_axes=jax.tree.map(lambda lead: 0 if lead else None, leads))
    if not shares_members(plan.mesh):
        return mapped
    here, everywhere = PartitionSpec(MEMBER), PartitionSpec()
    return jax.shard_map(
        mapped,
        mesh=plan.mesh,
        in_specs=jax.tree.map(lambda lead: here if lead else everywhere, leads),
        out_specs=here,
        axis_names={MEMBER},
        check_vma=False,
    )


def _epoch(
    plan: Plan, member: Member, epoch: Array, data: Batch, validation: Batch | None
) -> tuple[Member, Metrics]:
    """One epoch of one member, and its metrics averaged over the rows that it saw."""
    rows, size = num_rows(data), plan.batch_size
    full, rest = divmod(rows, size)
    order = epoch_order(member.key, epoch, rows)

    def step(running: Running, index: Array | int, count: int, undo: bool = True) -> Running:
        batch = split_rows(plan.mesh, rows_of_batch(data, order, index * size, count))
        return counted_step(plan, running, batch, step_key(member.key, epoch, index), undo)

    zero = jnp.zeros((), jnp.int32)
    running = Running(member, {}, zero)
    names = jax.eval_shape(lambda: step(running, 0, size).sums)
    running = running._replace(sums={n: jnp.zeros(v.shape, v.dtype) for n, v in names.items()})
    if plan.ensemble:
        # Under vmap a condition that differs between members makes XLA copy the whole state at
        # every step; a member that has stopped stands still by itself.
        running = jax.lax.fori_loop(
            0, full, lambda index, running: step(running, index, size), running
        )
    else:
        whole = functools.partial(step, count=size, undo=False)
        running = _steps_without_copies(plan, running, whole, full)
    if rest:
        running = step(running, full, rest)
    steps = plan.steps or plan.epochs * (full + bool(rest))
    return end_of_epoch(plan, running, epoch, validation, steps - 1)


def _steps_without_copies(
    plan: Plan, start: Running, step: Callable[[Running, Array], Running], count: int
) -> Running:
    """Takes `count` steps of one member, or those before the first that is not finite.

    To keep the state before each step, in case the step is not finite, costs a fifth of the time of
    a small model, and to look through params and optimiser state after each a tenth. Only the start
    is kept, and the state is looked through after the last step: what is not finite in it remains
    so. After a step that was not finite, the steps before it are taken once more, as many of them
    as leave a finite state, which is found by halving.

    Args:
      plan: The plan of the run.
      start: The member before the steps.
      step: (member, index of the step) -> member, which need not undo what is not finite.
      count: Number of steps.
    """
    zero, whole = jnp.zeros((), jnp.int32), jnp.asarray(count, jnp.int32)

    def steps(limit: Array) -> tuple[Array, Running]:
        return jax.lax.while_loop(
            lambda state: (state[0] < limit) & goes_on(plan, state[1].member),
            lambda state: (state[0] + 1, step(state[1], state[0])),
            (zero, start),
        )

    def once(search: _Search) -> _Search:
        taken, after = steps(search.limit)
        good = after.member.finite & remains_finite(start.member.train, after.member.train)
        good = good | (search.limit <= 0)  # the start, whatever it is
        first = search.bad > count
        # What is reported is the epoch with the step that failed.
        sums, seen = jax.tree.map(
            lambda a, b: jnp.where(first, b, a),
            (search.running.sums, search.running.seen),
            (after.sums, after.seen),
        )
        low = jnp.where(good, search.limit, search.good)
        bad = jnp.where(good, search.bad, jnp.minimum(search.limit, taken))
        # Most often it is the gradient of the last step, and the state before it is the one.
        limit = jnp.where(first, bad - 1, (low + bad) // 2)
        found = good & (first | (low + 1 >= bad))
        return _Search(found, limit, low, bad, Running(after.member, sums, seen))

    unknown = _Search(jnp.asarray(False), whole, zero, whole + 1, start)
    search = jax.lax.while_loop(lambda search: ~search.found, once, unknown)
    running = search.running
    finite = running.member.finite & (search.bad > count)
    return running._replace(member=running.member._replace(finite=finite))


class _Search(NamedTuple):
    """For the last step that leaves a finite state.

    Attributes:
      found: Whether `running` is after that step.
      limit: Number of steps to take next.
      good: A number of steps that leaves a finite state.
      bad: The least number known that does not.
      running: The member after the steps taken last; its sums are those of the first time.
    """

    found: Array
    limit: Array
    good: Array
    bad: Array
    running: Running


def goes_on(plan: Plan, member: Member) -> Array:
    """Whether a member takes another step."""
    wanted = member.active & member.finite
    return wanted if plan.steps is None else wanted & (member.train.step < plan.steps)


def counted_step(
    plan: Plan, running: Running, batch: Batch, key: Key, undo: bool = True
) -> Running:
    """One step of one member that goes on, counted by its rows; otherwise nothing changes.

    Without sums (`{}`) they are started: the shapes of that are the names of the metrics. With
    `undo` False the member must be one that goes on, and a step that is not finite stays.
    """
    member, sums, seen = running
    wanted, count = goes_on(plan, member) if undo else jnp.asarray(True), num_rows(batch)
    train, metrics, finite = apply_gradient(
        plan.loss_of(member), plan.optimizer, member.train, batch, key, wanted, undo
    )
    found = {name: jnp.where(wanted, count * v, 0) for name, v in to_sum(metrics).items()}
    sums = {name: sums[name] + v for name, v in found.items()} if sums else found
    member = member._replace(
        train=same_everywhere(plan.mesh, train), finite=member.finite & (finite | ~wanted)
    )
    return Running(member, sums, seen + jnp.where(wanted, count, 0))


def end_of_epoch(
    plan: Plan, running: Running, epoch: Array, validation: Batch | None, last_step: Array | int
) -> tuple[Member, Metrics]:
    """Averages the metrics over the rows, validates, and decides whether the member goes on.

    Args:
      plan: The plan of the run.
      running: The member after its last step of the epoch.
      epoch: Number of the epoch.
      validation: Validation data, or None.
      last_step: Number of the last step of the run.
    """
    member, sums, seen = running
    metrics = {name: total / seen for name, total in sums.items()}
    if validation is not None:
        metrics |= validate(plan, member, epoch, validation, last_step)
    # A stopped member records NaN while it waits for the others.
    history = {name: jnp.where(member.active, value, jnp.nan) for name, value in metrics.items()}
    return keep_score(plan, member, epoch, metrics), history


def to_sum(metrics: Metrics) -> Metrics:
    """Metrics in a dtype in which many of them add up: bfloat16 counts to 256 and no further."""
    return {
        name: value.astype(jnp.promote_types(value.dtype, jnp.float32))
        for name, value in metrics.items()
    }


def validate(
    plan: Plan, member: Member, epoch: Array, data: Batch, last_step: Array | int
) -> Metrics:
    """Loss and metrics on the validation data, in batches, as "validation_...".

    A loss that follows the step is given the last one of the run each time: the values of two
    epochs are compared, so they must be those of one loss.
    """
    rows = num_rows(data)
    size = min(rows, max(plan.batch_size, 1024))
    full, rest = divmod(rows, size)
    base = jax.random.fold_in(jax.random.fold_in(member.key, epoch), 2)
    train, loss_fn = member.train, plan.loss_of(member)
    loss_fn = getattr(loss_fn, "evaluate", loss_fn)  # the model in prediction
    order = jnp.arange(rows)
    share_of, whole = shares_of_parts(loss_fn, data, alone=size == rows)

    def sum_over(index: Array | int, count: int) -> Metrics:
        batch, share = share_of(rows_of_batch(data, order, index * size, count), count)
        key = jax.random.fold_in(base, index)
        batch = split_rows(plan.mesh, batch)
        loss, metrics, _ = evaluate(loss_fn, train.params, batch, key, last_step)
        metrics = to_sum({"loss": loss, **metrics})
        return {name: jnp.where(share > 0, share * v, 0.0) for name, v in metrics.items()}

    parts = jax.lax.map(lambda index: sum_over(index, size), jnp.arange(full))
    sums = {name: jnp.sum(value, axis=0) for name, value in parts.items()}
    if rest:
        sums = {name: sums[name] + value for name, value in sum_over(full, rest).items()}
    return {f"validation_{name}": total / whole for name, total in sums.items()}


Part = dict[str, Array]


def shares_of_parts(
    loss_fn: LossFn, data: Batch, alone: bool
) -> tuple[Callable[[Part, int], tuple[Part, Array | int]], Array | int]:
    """Returns how the values of a loss over parts of the data make that over all of them.

    A part counts by its rows, or by their weights where there are some:

        L = sum_c W_c L_c / W     where L divides by the sum of the weights
        L = sum_c n_c L_c / N     where L divides by the number of rows

    Both are the first sum if the weights within each part are scaled to have the mean of all:
    that leaves the one kind as it is and multiplies the other by (W n_c) / (N W_c). So nobody needs
    to know which kind a loss is; one that says it (`average`) sees its weights as they are.

    Args:
      loss_fn: The loss.
      data: All rows, with "weight" `[N]` perhaps.
      alone: Whether there is one part only.

    Returns:
      (rows of a part, their number) -> the rows as the loss is to see them, and their share; and
      the sum of all shares.
    """
    weight, average = data.get("weight"), getattr(loss_fn, "average", None)
    if weight is None or weight.ndim != 1 or average == "rows" or alone:
        return lambda part, count: (part, count), num_rows(data)
    weight = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
    mean, rows = jnp.mean(weight), weight.shape[0]
    usable = jnp.all(weight >= 0) & (mean > 0)  # else it is no number of times that a row counts

    def by_weight(part: Part, count: int) -> tuple[Part, Array]:
        own = part["weight"].astype(weight.dtype)
        total = jnp.sum(own)
        if average is None:
            scaled = jnp.where(total > 0, own * (mean * count / total), 1.0)
            part = {**part, "weight": jnp.where(usable, scaled, own)}
        return part, jnp.where(usable, total, count)

    return by_weight, jnp.where(usable, jnp.sum(weight), rows)


def keep_score(plan: Plan, member: Member, epoch: Array, metrics: Metrics) -> Member:
    """Updates the best params and decides whether the member goes on."""
    spent = False if plan.steps is None else member.train.step >= plan.steps
    new = member._replace(active=member.finite & ~jnp.asarray(spent))
    if "validation_loss" in metrics:
        checks = [jnp.isfinite(v) for name, v in metrics.items() if name.startswith("validation_")]
        # The params of a failed step are those before it: their validation says nothing new.
        valid = member.valid & (jnp.all(jnp.stack(checks)) | ~member.finite)
        new = new._replace(valid=valid, active=new.active & valid)
        loss = metrics["validation_loss"].astype(member.best_loss.dtype)
        better = valid & (loss < member.best_loss)
        new = new._replace(
            best_params=jax.tree.map(
                lambda a, b: jnp.where(better, a, b), member.train.params, member.best_params
            ),
            best_loss=jnp.where(better, loss, member.best_loss),
            best_epoch=jnp.where(better, epoch, member.best_epoch),
        )
        if plan.patience is not None:
            patient = epoch - new.best_epoch < plan.patience
            new = new._replace(patient=patient, active=new.active & patient)
    if not plan.ensemble:
        return new
    # A member that has stopped waits unchanged for the others.
    return jax.tree.map(lambda a, b: jnp.where(member.active, a, b), new, member)
