"""`fit`: params, data, optimiser and key in; trained params and their history out."""

import numbers
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprob.training.checkpoint import Checkpoints, describe_run
from jaxprob.training.data import as_device_data, num_rows
from jaxprob.training.diagnose import raise_non_finite
from jaxprob.training.loop import LoopState, Plan, on_mesh, run_epochs, start
from jaxprob.training.precision import in_precision
from jaxprob.training.progress import Progress
from jaxprob.training.sharding import agreed, check_shares, checked_mesh, to_host
from jaxprob.training.step import TrainState
from jaxprob.types import Batch, Key, LossFn, Params

__all__ = ["Fitted", "fit"]

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


def fit(
    loss_fn: LossFn,
    params: Params,
    data: Batch,
    *,
    optimizer: optax.GradientTransformation,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    key: Key,
    validation: Batch | None = None,
    patience: int | None = None,
    progress: bool = True,
    log: Callable[[int, dict[str, float]], Any] | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    mesh: Mesh | None = None,
    compute_dtype: Any = None,
) -> Fitted:
    """Minimises a loss over shuffled minibatches, all epochs in one compiled program.

    Every row is seen once in each epoch; the last batch of an epoch is smaller where `batch_size`
    does not divide N. Call it again with the same `loss_fn` and `optimizer` objects and shapes and
    nothing is compiled again.

    The loss says what is estimated. Those of `objectives` divide by the sum of `batch["weight"]`
    within the batch: with weights a minibatch then estimates the weighted mean over the data with a
    bias of order 1 / batch_size (it estimates a ratio); epochs average batches by their rows. Where
    that matters, scale the weights to mean 1 over the data and take sum(weight * nll) / B in a loss
    of your own.

    Args:
      loss_fn: `loss_fn(params, batch, key) -> (loss, metrics)`; every metric is a finite scalar. A
        loss with the attribute `uses_step = True` finds the number of steps taken in
        `batch["step"]`; wrappers around it must carry the attribute on, as `functools.wraps` does.
      params: Pytree where the training starts. It is not changed. A dict with the entry
        "collections" holds the model's other state there (batch statistics, ...): it is not
        trained, the loss returns its new value as `metrics["collections"]`.
      data: Dict of arrays with leading axis N.
      optimizer: Any optax transformation.
      epochs: Passes over the data; or give `steps`.
      steps: Number of optimisation steps; or give `epochs`.
      batch_size: Rows of a batch B.
      key: Key of the whole run: order of the rows and randomness of the loss.
      validation: Dict of arrays like `data`, evaluated after every epoch.
      patience: Stop after this many epochs without a better validation loss.
      progress: Show a progress line.
      log: Called with (epoch, metrics) for every epoch.
      checkpoint_dir: Directory for checkpoints, written in the background. A run that was killed
        and is called again with the same arguments goes on where it was, to the same bits; one that
        has finished returns at once; one with more `epochs` or `steps` goes on. The optimiser is
        known by the shapes of its state only: a new learning rate goes on from the old state.
      checkpoint_every: Epochs between two checkpoints; None for about one in 30 seconds.
      resume: False refuses a directory that holds checkpoints.
      mesh: Devices with an axis "data", over which the rows of each batch are split. Several
        processes (`jax.distributed`) call `fit` with the same arguments.
      compute_dtype: Such as `jnp.bfloat16`: float of the contractions of Linen layers; params,
        log-probs and the loss stay as they are.

    Returns:
      Final and best params, the state, and the history.

    Raises:
      ValueError: Bad data or arguments, or a directory that belongs to another run.
      NonFiniteError: The loss or its gradient stopped being finite; the error names the step and
        the first term that is not finite, and holds the last finite result as `error.fitted`.
    """
    return run(
        loss_fn,
        params,
        typed_key(key, "fit"),
        data,
        optimizer=optimizer,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        validation=validation,
        patience=patience,
        progress=progress,
        log=log,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=checkpoint_every,
        resume=resume,
        mesh=mesh,
        compute_dtype=compute_dtype,
        members=None,
    )


def run(
    loss_fn: LossFn,
    params: Params,
    key: Key,
    data: Batch,
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
    _check_arguments(epochs, steps, batch_size, patience, validation, checkpoint_every)
    where = "fit" if members is None else "fit_ensemble"
    mesh = checked_mesh(mesh, where)
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    device_data = as_device_data(data, "data", sharding)
    device_validation = (
        None if validation is None else as_device_data(validation, "validation", sharding)
    )
    rows = num_rows(device_data)
    batch_size = min(batch_size, rows)
    check_shares(mesh, members=members, batch_size=batch_size, where=where)
    per_epoch = -(-rows // batch_size)
    if steps is not None:
        epochs = -(-steps // per_epoch)
    assert epochs is not None
    plan = Plan(
        in_precision(loss_fn, compute_dtype),
        optimizer,
        batch_size,
        epochs,
        steps,
        patience,
        members is not None,
        mesh,
    )
    state = start(plan, _as_arrays(params), key, device_data, device_validation)
    # The loop donates its state; the caller's params must survive that.
    state = jax.tree.map(jnp.copy, state)
    checkpoints = None
    if checkpoint_dir is not None:
        settings = {"batch_size": batch_size, "patience": patience, "compute_dtype": compute_dtype}
        described = describe_run(
            {**settings, "members": members},
            data=device_data,
            validation=device_validation,
            key=key,
            params=params,
            optimizer_state=jax.eval_shape(lambda: state.member.train.opt_state),
            metric={name: jax.ShapeDtypeStruct((), v.dtype) for name, v in state.history.items()},
        )
        checkpoints = Checkpoints(
            checkpoint_dir,
            described,
            every=checkpoint_every,
            resume=resume,
            shared=_shared(plan),
        )
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
    if not _all_well(state):
        raise_non_finite(plan, state, fitted, device_data)
    return fitted


def _shared(plan: Plan) -> bool:
    return plan.mesh is not None and jax.process_count() > 1


def _as_arrays(params: Params) -> Params:
    """Arrays on the device; those of other devices stay where they are."""
    return jax.tree.map(lambda w: w if isinstance(w, jax.Array) else jnp.asarray(w), params)


def _resumed(plan: Plan, state: LoopState, checkpoints: Checkpoints) -> LoopState:
    found = checkpoints.restore(state, plan.epochs, plan.steps)
    if found is None:
        return state
    member, epoch, history = found
    active = member.finite & member.valid & member.patient
    if plan.steps is not None:
        active = active & (member.train.step < plan.steps)
    return on_mesh(plan, LoopState(member._replace(active=active), epoch, history))


def _all_well(state: LoopState) -> bool:
    return bool(np.all(to_host(state.member.finite) & to_host(state.member.valid)))


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
    if finished and not _all_well(state):
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


def _check_arguments(epochs, steps, batch_size, patience, validation, checkpoint_every) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"fit: give either epochs or steps; got epochs={epochs} and steps={steps}."
        )
    counts = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "patience": patience,
        "checkpoint_every": checkpoint_every,
    }
    for name, value in counts.items():
        if value is not None and not isinstance(value, numbers.Integral):
            raise ValueError(f"fit: {name} must be a whole number; got {value!r}.")
        if value is not None and not value >= 1:
            raise ValueError(f"fit: {name} must be at least 1; got {value}.")
    if patience is not None and validation is None:
        raise ValueError(
            "fit: patience counts epochs without a better validation loss, so it needs "
            'validation={"x": ..., "y": ...}; got None.'
        )
