"""A run from its arguments to its result: the part that `fit` and `fit_ensemble` share."""

import functools
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprob.training.checkpoint import Checkpoints, describe_run
from jaxprob.training.data import as_device_data, num_rows, step_key, to_device
from jaxprob.training.diagnose import (
    forgotten_error,
    raise_non_finite,
    step_error,
    to_local,
    validation_error,
)
from jaxprob.training.loop import first_member, on_mesh, run_epochs, start
from jaxprob.training.plan import LoopState, Member, Plan
from jaxprob.training.precision import in_precision
from jaxprob.training.progress import Progress
from jaxprob.training.sharding import agreed, check_shares, checked_mesh, to_host
from jaxprob.training.step import TrainState
from jaxprob.training.stream import Stream, StreamEndedError, is_stream
from jaxprob.types import Batch, Key, LossFn, Params

__all__ = ["Fitted", "run", "typed_key"]

SECONDS_BETWEEN_LOOKS = 0.25
"""The host looks into the running program about this often, to show progress."""


class Fitted(NamedTuple):
    """A finished run (for an ensemble, every leaf of params and state leads with M).

    Attributes:
      params: Params after the last step.
      best_params: Params of the epoch with the lowest validation loss; without validation data,
        the same as `params`.
      state: Params, optimiser state and step count, to go on from.
      history: For each metric one number per epoch run, `[epochs]` (`[epochs, M]` for an ensemble;
        NaN after a member has stopped).
    """

    params: Params
    best_params: Params
    state: TrainState
    history: dict[str, np.ndarray]


def run(
    loss_fn: LossFn,
    params: Params,
    key: Key,
    data: Batch | Iterable[Any],
    *,
    optimizer: optax.GradientTransformation,
    epochs: int | None,
    steps: int | None,
    batch_size: int,
    validation: Batch | None,
    patience: int | None,
    progress: bool,
    log: Callable[[int, dict[str, float]], Any] | None,
    checkpoint_dir: str | os.PathLike | None,
    checkpoint_every: int | None,
    resume: bool,
    mesh: Mesh | None,
    compute_dtype: Any,
    members: int | None,
) -> Fitted:
    """The common part of `fit` and `fit_ensemble` (see there)."""
    _check_arguments(epochs, steps, patience, validation)
    where = "fit" if members is None else "fit_ensemble"
    mesh = checked_mesh(mesh, where)
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    stream = is_stream(data)
    if not stream:
        device_data = as_device_data(data, "data", sharding)
        batch_size = min(batch_size, num_rows(device_data))
    device_validation = (
        None if validation is None else as_device_data(validation, "validation", sharding)
    )
    loss_fn, ensemble = in_precision(loss_fn, compute_dtype), members is not None
    settings = {"patience": patience, "compute_dtype": compute_dtype, "members": members}
    settings["batch_size"] = "the stream's" if stream else batch_size
    open_checkpoints = functools.partial(
        _open_checkpoints,
        checkpoint_dir,
        checkpoint_every,
        resume,
        settings,
        {"data": None if stream else device_data, "validation": device_validation, "key": key,
         "params": params},
    )  # fmt: skip
    if stream:
        plan = Plan(loss_fn, optimizer, batch_size, epochs or 1, steps, patience, ensemble, mesh)
        check_shares(mesh, members=members, batch_size=None, where=where)
        member = first_member(plan, _as_arrays(params), key, validation is not None)
        batches = Stream(plan, data, member, device_validation)
        return _run_stream(plan, batches, open_checkpoints, progress, log)
    check_shares(mesh, members=members, batch_size=batch_size, where=where)
    per_epoch = -(-num_rows(device_data) // batch_size)
    if steps is not None:
        epochs = -(-steps // per_epoch)
    assert epochs is not None
    plan = Plan(loss_fn, optimizer, batch_size, epochs, steps, patience, ensemble, mesh)
    state = start(plan, _as_arrays(params), key, device_data, device_validation)
    metrics = {name: jax.ShapeDtypeStruct((), v.dtype) for name, v in state.history.items()}
    checkpoints = open_checkpoints(plan, state.member, metrics)
    try:
        if checkpoints is not None:
            state = _resumed(plan, state, checkpoints)
        with Progress(epochs, enabled=progress) as display:
            state = _run_and_show(
                plan, state, device_data, device_validation, display, log, checkpoints, per_epoch
            )
    finally:
        if checkpoints is not None:
            checkpoints.close()
    fitted = finish(state, validation is not None)
    if not _all_well(state.member):
        raise_non_finite(plan, state, fitted, device_data)
    return fitted


def _open_checkpoints(
    directory: str | os.PathLike | None,
    every: int | None,
    resume: bool,
    settings: dict[str, Any],
    trees: dict[str, Any],
    plan: Plan,
    member: Member,
    metrics: dict[str, Any],
) -> Checkpoints | None:
    if directory is None:
        return None
    optimizer_state = jax.eval_shape(lambda: member.train.opt_state)
    run = describe_run(settings, **trees, optimizer_state=optimizer_state, metric=metrics)
    return Checkpoints(directory, run, every=every, resume=resume, shared=_shared(plan))


def _run_stream(
    plan: Plan,
    stream: Stream,
    open_checkpoints: Callable,
    progress: bool,
    log: Callable[[int, dict[str, float]], Any] | None,
) -> Fitted:
    checkpoints = open_checkpoints(plan, stream.member, {})
    try:
        if checkpoints is not None:
            stream.resume(checkpoints)
        with Progress(plan.epochs if plan.steps is None else None, enabled=progress) as display:
            while stream.goes_on():
                metrics = {name: _mean(value) for name, value in stream.epoch().items()}
                display.update(stream.done, metrics, SECONDS_BETWEEN_LOOKS)
                if log is not None:
                    log(stream.done - 1, metrics)
                if checkpoints is not None:
                    _save_stream(plan, stream, checkpoints)
                if stream.once:
                    break
    finally:
        if checkpoints is not None:
            checkpoints.close()
    return _finish_stream(plan, stream)


def _save_stream(plan: Plan, stream: Stream, checkpoints: Checkpoints) -> None:
    finished = not stream.goes_on()
    if finished and not _all_well(stream.member):
        return
    if checkpoints.due(stream.done) or finished:
        # Steps may have ended inside a pass: nothing to go on from with more of them.
        cut = plan.steps if plan.steps is not None and stream.taken >= plan.steps else None
        checkpoints.save(stream.state(), stream.done, cut)


def _finish_stream(plan: Plan, stream: Stream) -> Fitted:
    member = stream.member
    params = jax.tree.map(jnp.copy, member.train.params)
    best = params if member.best_params == () else member.best_params
    history = {name: np.stack(values) for name, values in stream.history.items()}
    fitted = Fitted(params, best, member.train, history)
    if not _all_well(member):
        finite, valid = to_host(member.finite), to_host(member.valid)
        number = int(np.argmin(finite & valid)) if plan.ensemble else None
        one = to_local(member, number)
        failure = stream.failures.get(number)
        if one.finite:
            raise validation_error(fitted, number, int(one.train.step))
        if failure is None:
            raise forgotten_error(fitted, number, int(one.train.step))
        batch = {name: jnp.asarray(to_host(value)) for name, value in failure.batch.items()}
        place_of = (failure.epoch, failure.index)
        key = step_key(one.key, *place_of)
        raise step_error(plan, one.train, batch, key, fitted=fitted, place=place_of, rows=None,
                         member=number)  # fmt: skip
    if plan.steps is not None and stream.once and stream.taken < plan.steps:
        raise StreamEndedError(
            f"fit: data ended after {stream.taken} batches; steps={plan.steps} were asked for. "
            "The result so far is kept in error.fitted. Give fewer steps, or an iterable that can "
            "be read again.",
            fitted,
        )
    return fitted


def _shared(plan: Plan) -> bool:
    return plan.mesh is not None and jax.process_count() > 1


def _as_arrays(params: Params) -> Params:
    """Arrays on the device; those of other devices stay where they are."""
    return jax.tree.map(lambda w: w if isinstance(w, jax.Array) else to_device(w), params)


def _resumed(plan: Plan, state: LoopState, checkpoints: Checkpoints) -> LoopState:
    found = checkpoints.restore(state, plan.epochs, plan.steps)
    if found is None:
        return state
    member, epoch, history = found
    active = member.finite & member.valid & member.patient
    if plan.steps is not None:
        active = active & (member.train.step < plan.steps)
    return on_mesh(plan, LoopState(member._replace(active=active), epoch, history))


def _all_well(member: Member) -> bool:
    return bool(np.all(to_host(member.finite) & to_host(member.valid)))


def _run_and_show(
    plan: Plan,
    state: LoopState,
    data: Batch,
    validation: Batch | None,
    display: Progress,
    log: Callable[[int, dict[str, float]], Any] | None,
    checkpoints: Checkpoints | None,
    per_epoch: int,
) -> LoopState:
    done, shared = int(state.epoch), _shared(plan)
    watched = display.enabled or log is not None or checkpoints is not None
    chunk = 1 if watched else plan.epochs
    # Where the steps end inside an epoch, the start of that epoch is the place to go on from later.
    cut = plan.steps if plan.steps is not None and plan.steps % per_epoch else None
    while done < plan.epochs and np.any(to_host(state.member.active)):
        until = min(done + chunk, plan.epochs)
        if checkpoints is not None:
            until = checkpoints.until(done, until)
            if cut is not None and done < plan.epochs - 1:
                until = min(until, plan.epochs - 1)
        until = agreed(until, shared)
        state = run_epochs(state, jnp.asarray(until, jnp.int32), data, validation, plan=plan)
        now = int(state.epoch)
        if watched or shared:  # several processes look together, or not at all
            recent = {name: to_host(h[done:now]) for name, h in state.history.items()}
            if log is not None:
                for i in range(now - done):
                    log(done + i, {name: _mean(h[i]) for name, h in recent.items()})
            chunk = display.update(
                now, {n: _mean(h[-1]) for n, h in recent.items()}, SECONDS_BETWEEN_LOOKS
            )
        done = now
        if checkpoints is not None:
            _save(plan, state, checkpoints, cut)
    return state


def _save(plan: Plan, state: LoopState, checkpoints: Checkpoints, cut: int | None) -> None:
    epoch = int(state.epoch)
    finished = epoch == plan.epochs or not np.any(to_host(state.member.active))
    if finished and not _all_well(state.member):
        return  # it ends in an error; whoever repairs the cause goes on from the checkpoint before
    before_cut = cut is not None and epoch == plan.epochs - 1
    if checkpoints.due(epoch) or finished or before_cut:
        checkpoints.save(state, epoch, cut if epoch == plan.epochs else None)


def _mean(value: np.ndarray | np.floating) -> float:
    """Mean over the members that still run (one number for a single model)."""
    running = value[np.isfinite(value)] if value.ndim else value
    return float(np.mean(running)) if running.size else float("nan")


def finish(state: LoopState, validated: bool) -> Fitted:
    """Returns the result of a run that has ended."""
    ran = int(state.epoch)
    history = {name: to_host(values[:ran]) for name, values in state.history.items()}
    train = state.member.train
    params = jax.tree.map(jnp.copy, train.params)  # they outlive a step that donates `state`
    best = state.member.best_params if validated else params
    return Fitted(params, best, train, history)


def typed_key(key: Any, where: str) -> Key:
    """Returns the key of a run; the older kind of key (two integers) becomes a typed one."""
    if isinstance(key, (jax.Array, np.ndarray)):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
            return key
        if key.dtype == np.uint32 and key.shape == (2,):
            return jax.random.wrap_key_data(key)
    got = f"an array {key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
    raise ValueError(f"{where}: key must be one key, such as jax.random.key(0); got {got}.")


def _check_arguments(
    epochs: int | None, steps: int | None, patience: int | None, validation: Batch | None
) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"fit: give either epochs or steps; got epochs={epochs} and steps={steps}."
        )
    if patience is not None and validation is None:
        raise ValueError(
            "fit: patience counts epochs without a better validation loss, so it needs "
            'validation={"x": ..., "y": ...}; got None.'
        )
