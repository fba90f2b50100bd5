"""`fit`: params, data, optimiser and key in; trained params and their history out."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.training.data import as_device_data, num_rows
from jaxprob.training.diagnose import raise_non_finite
from jaxprob.training.loop import LoopState, Plan, run_epochs, start
from jaxprob.training.progress import Progress
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
) -> Fitted:
    """Minimises a loss over shuffled minibatches, all epochs in one compiled program.

    Every row is seen once in each epoch; the last batch of an epoch is smaller where `batch_size`
    does not divide N. Call it again with the same `loss_fn` and `optimizer` objects and shapes and
    nothing is compiled again.

    Args:
      loss_fn: `loss_fn(params, batch, key) -> (loss, metrics)`.
      params: Pytree where the training starts. It is not changed.
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

    Returns:
      Final and best params, the state, and the history.

    Raises:
      ValueError: Bad data or arguments.
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
        ensemble=False,
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
    ensemble: bool,
) -> Fitted:
    """The common part of `fit` and `fit_ensemble` (see there)."""
    device_data = as_device_data(data)
    device_validation = None if validation is None else as_device_data(validation, "validation")
    rows = num_rows(device_data)
    _check_arguments(epochs, steps, batch_size, patience, validation)
    batch_size = min(batch_size, rows)
    if steps is not None:
        epochs = -(-steps // -(-rows // batch_size))
    assert epochs is not None
    plan = Plan(loss_fn, optimizer, batch_size, epochs, steps, patience, ensemble)
    params = jax.tree.map(jnp.asarray, params)
    state = start(plan, params, key, device_data, device_validation)
    # The loop donates its state; the caller's params must survive that.
    state = jax.tree.map(jnp.copy, state)
    with Progress(epochs, enabled=progress) as display:
        state = _run_and_show(plan, state, device_data, device_validation, display, log)
    fitted = _finish(state, validation is not None)
    if not np.all(state.member.finite & state.member.valid):
        raise_non_finite(plan, state, fitted, device_data)
    return fitted


def _run_and_show(
    plan: Plan, state: LoopState, data: Batch, validation: Batch | None, display: Progress, log
) -> LoopState:
    done, chunk = 0, 1 if (display.enabled or log) else plan.epochs
    while done < plan.epochs:
        until = min(done + chunk, plan.epochs)
        state = run_epochs(state, jnp.asarray(until, jnp.int32), data, validation, plan=plan)
        now = int(state.epoch)
        if display.enabled or log:
            recent = {name: np.asarray(h[done:now]) for name, h in state.history.items()}
            if log is not None:
                for i in range(now - done):
                    log(done + i, {name: _mean(h[i]) for name, h in recent.items()})
            chunk = display.update(
                now, {n: _mean(h[-1]) for n, h in recent.items()}, SECONDS_BETWEEN_LOOKS
            )
        done = now
        if not np.any(state.member.active):
            break
    return state


def _mean(value: np.ndarray | np.floating) -> float:
    """Mean over the members that still run (one number for a single model)."""
    running = value[np.isfinite(value)] if value.ndim else value
    return float(np.mean(running)) if running.size else float("nan")


def _finish(state: LoopState, validated: bool) -> Fitted:
    ran = int(state.epoch)
    history = {name: np.asarray(values[:ran]) for name, values in state.history.items()}
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


def _check_arguments(epochs, steps, batch_size, patience, validation) -> None:
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"fit: give either epochs or steps; got epochs={epochs} and steps={steps}."
        )
    counts = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "patience": patience}
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
