"""`fit_ensemble`: `fit` over a leading axis of params, as one program."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxprob.training.data import require_members
from jaxprob.training.fitted import Fitted
from jaxprob.training.run import run, typed_key
from jaxprob.training.settings import Settings
from jaxprob.training.start import with_hyperparams
from jaxprob.training.step import TrainState
from jaxprob.types import Batch, Key, LossFn, Numbers, Params

__all__ = ["fit_ensemble"]


def fit_ensemble(
    loss_fn: LossFn | Callable[..., LossFn],
    members: Params,
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
    per_member: Sequence[str] = (),
    hyperparams: Mapping[str, Numbers] | None = None,
) -> Fitted:
    """Trains M members at once: member m is `fit` with `jax.random.split(key, M)[m]`.

    Args:
      loss_fn: `loss_fn(params, batch, key) -> (loss, metrics)` of one member.
      members: Pytree whose every leaf leads with M, e.g. `jax.vmap(init)(keys)`.
      data: Dict of arrays with leading axis N, shared; each member shuffles on its own. Or an
        iterable of batches, as in `fit`, every one of which all members see.
      optimizer: Any optax transformation.
      epochs: Passes over the data; or give `steps`.
      steps: Number of optimisation steps; or give `epochs`.
      batch_size: Rows of a batch B.
      key: Key of the whole ensemble.
      validation: Dict of arrays like `data`, evaluated after every epoch.
      patience: A member stops after this many epochs without a better validation loss of its own.
      progress: Show a progress line, with means over the members that still run.
      log: Called with (epoch, metrics) for every epoch, metrics as means over the members.
      checkpoint_dir: Directory for checkpoints, as in `fit`.
      checkpoint_every: Epochs between two checkpoints; None for about one in 30 seconds.
      resume: False refuses a directory that holds checkpoints.
      mesh: Devices with axes "member" (members are shared out, and stay where they are: no device
        ever holds all of them) and/or "data" (each batch is split).
      compute_dtype: Float of the contractions of layers, as in `fit`.
      per_member: Entries of `data` (and of `validation`, and of a stream's batches) that lead with
        M, `[M, N, ...]`: rows or weights of each member's own, for the bootstrap or for folds.
      hyperparams: Numbers `[M]` by name, one for each member. What `optax.inject_hyperparams` keeps
        under that name in the optimiser is set to it (a number that its state is made from, such as
        Adagrad's initial accumulator, cannot be). With any other name `loss_fn` is a function
        of such numbers that returns the loss, e.g. `lambda scale: objectives.map_loss(model,
        GaussianPrior(scale), num_data)` with `hyperparams={"scale": scales}`.

    Returns:
      Params, best params and state with leading axis M, and the history `[epochs, M]`.

    Raises:
      ValueError: Bad data or arguments, or leaves without a common leading axis.
      NonFiniteError: A member stopped being finite; `error.fitted` holds all members.
      KeyboardInterrupt: As in `fit`; whatever stops a run that has begun holds `error.fitted`.
    """
    settings = Settings(
        "fit_ensemble",
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
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(members)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise ValueError(
            f"fit_ensemble: every leaf of members needs the same leading axis M; got leading sizes "
            f"{sorted(sizes)}. Build it with jax.vmap(init)(jax.random.split(key, M))."
        )
    (num_members,) = next(iter(sizes))
    keys = jax.random.split(typed_key(key, "fit_ensemble"), num_members)
    own = {name: np.asarray(value) for name, value in (hyperparams or {}).items()}
    _check_own(loss_fn, optimizer, members, own, num_members)
    settings = dataclasses.replace(
        settings, members=num_members, per_member=tuple(per_member), hyperparams=own
    )
    for batch in (data, validation):
        if isinstance(batch, Mapping):
            require_members(batch, settings.per_member, num_members)
    return run(settings, members, keys, data, validation)


def _check_own(
    loss_fn: Any,
    optimizer: optax.GradientTransformation,
    members: Params,
    own: dict[str, np.ndarray],
    num_members: int,
) -> None:
    """Refuses numbers of another shape, and names that neither optimiser nor loss knows."""
    for name, value in own.items():
        if value.shape != (num_members,):
            raise ValueError(
                f"fit_ensemble: hyperparams[{name!r}] has shape {value.shape}; expected one number "
                f"for each member, ({num_members},)."
            )
    others = dict(own)
    if own:
        first = jax.tree.map(lambda leaf: leaf[0], members)
        start = jax.eval_shape(lambda: TrainState.create(first, optimizer).opt_state)
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), start)
        others = with_hyperparams(zeros, own)[1]
    parameters = inspect.signature(loss_fn).parameters.values()
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [] if anything else sorted(set(others) - {p.name for p in parameters})
    if unknown:
        raise ValueError(
            f"fit_ensemble: hyperparams names {', '.join(unknown)}, which neither the optimiser "
            "injects (optax.inject_hyperparams) nor loss_fn takes. Give loss_fn as a function of "
            "it that returns the loss."
        )
