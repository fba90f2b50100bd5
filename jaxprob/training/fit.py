"""`fit`: params, data, optimiser and key in; trained params and their history out."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import optax
from jax.sharding import Mesh

from jaxprob.training.fitted import Fitted
from jaxprob.training.run import run, typed_key
from jaxprob.training.settings import Settings
from jaxprob.types import Batch, Key, LossFn, Params

__all__ = ["Fitted", "fit"]


def fit(
    loss_fn: LossFn,
    params: Params,
    data: Batch | Iterable[Any],
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
        `batch["step"]` (for validation, the number of the last step of the run); wrappers around it
        must carry the attribute on, as `functools.wraps` does.
      params: Pytree where the training starts. It is not changed. A dict with the entry
        "collections" holds the model's other state there (batch statistics, ...): it is not
        trained, the loss returns its new value as `metrics["collections"]`.
      data: Dict of arrays with leading axis N, finite where they are observed: NaN may stand where
        a mask ("x_observed", "y_observed", or "mask" of that shape) is False, and behind the
        "lengths" of sequences. Or any iterable of such dicts, each of them a batch:
        read ahead by a thread, one step for each batch (a batch of another shape compiles once
        more), one epoch for each pass. An iterator that can be read once wants `steps`; all of it
        is one epoch. For checkpoints a pass must give the same batches when it is asked for again;
        a method `set_epoch` is called with the epoch before each pass.
      optimizer: Any optax transformation.
      epochs: Passes over the data; or give `steps`.
      steps: Number of optimisation steps; or give `epochs`.
      batch_size: Rows of a batch B (an iterable has its own).
      key: Key of the whole run: order of the rows and randomness of the loss.
      validation: Dict of arrays like `data`, evaluated after every epoch, in parts of 1024 rows or
        `batch_size`, whichever is more. Rows count `weight` times, if that is there.
      patience: Stop after this many epochs without a better validation loss.
      progress: Show a progress line.
      log: Called with (epoch, metrics) for every epoch.
      checkpoint_dir: Directory for checkpoints, written in the background, and held by one run at a
        time. Of a damaged one a warning tells, and the run goes on from the one before. A run that
        was killed and is called again with the same arguments goes on where it was, to the same
        bits; one that has finished returns at once; one with more `epochs` or `steps` goes on. The
        optimiser is known by the shapes of its state only: a new learning rate goes on from the
        old state.
      checkpoint_every: Epochs between two checkpoints; None for about one in 30 seconds.
      resume: False refuses a directory that holds checkpoints.
      mesh: Devices with an axis "data", over which the rows of each batch are split. Several
        processes (`jax.distributed`) call `fit` with the same arguments.
      compute_dtype: Such as `jnp.bfloat16`: float of the contractions of Linen layers; params,
        log-probs and the loss stay as they are.

    Returns:
      Final and best params, the state, and the history.

    Raises:
      ValueError: Bad data or arguments, among them targets outside of the support of the model's
        distribution; or a directory that belongs to another run.
      NonFiniteError: The loss or its gradient stopped being finite; the error names the step and
        the first term that is not finite, and holds the last finite result as `error.fitted`.
      KeyboardInterrupt: Ctrl-C, raised after an epoch or after a step of a stream. This, and any
        other error that stops a run which has begun, holds the result so far as `error.fitted`.
    """
    settings = Settings(
        "fit",
        loss_fn,
        optimizer,
        epochs,
        steps,
        batch_size,
        patience,
        progress,
        log,
        checkpoint_dir,
        checkpoint_every,
        resume,
        mesh,
        compute_dtype,
    )
    return run(settings, params, typed_key(key, "fit"), data, validation)
