"""A run from its settings to its result: the part that `fit` and `fit_ensemble` share."""

import contextlib
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprob.sharding import check_shares
from jaxprob.training.advance import all_well, shared_by_processes, train
from jaxprob.training.arrays import Arrays
from jaxprob.training.checkpoint import Checkpoints, describe_run
from jaxprob.training.checks import DataCheck
from jaxprob.training.data import as_device_data, num_rows, require_some_weight, to_device
from jaxprob.training.fitted import Fitted, keep_result, result
from jaxprob.training.interrupts import Interrupts
from jaxprob.training.plan import Member
from jaxprob.training.protocol import require_loss
from jaxprob.training.settings import Settings
from jaxprob.training.start import first_member
from jaxprob.training.step import require_trainable
from jaxprob.training.stream import Stream, is_stream
from jaxprob.types import Batch, Key, Params

__all__ = ["run", "typed_key"]


def run(
    settings: Settings,
    params: Params,
    key: Key,
    data: Batch | Iterable[Any],
    validation: Batch | None,
) -> Fitted:
    """Trains; the arguments are those of `fit`, with a key for each member."""
    if settings.patience is not None and validation is None:
        raise ValueError(
            f"{settings.owner}: patience counts epochs without a better validation loss, so it "
            'needs validation={"x": ..., "y": ...}; got None.'
        )
    with Interrupts(settings.owner) as interrupts:
        return _run(settings, params, key, data, validation, interrupts)


def _run(
    settings: Settings,
    params: Params,
    key: Key,
    data: Batch | Iterable[Any],
    validation: Batch | None,
    interrupts: Interrupts,
) -> Fitted:
    everywhere = None if settings.mesh is None else NamedSharding(settings.mesh, PartitionSpec())
    own, owner, validated = settings.per_member, settings.owner, validation is not None
    if not settings.hyperparams:
        require_loss(owner, settings.loss_fn)
    require_trainable(owner, params)
    create = functools.partial(_first_member, settings, params, key, validated)
    check = DataCheck(settings, params, create)
    rows = held_out = None
    if not is_stream(data):
        rows = as_device_data(data, "data", everywhere, own, owner)
        require_some_weight(owner, "data", rows)
        check("data", data)  # pyright: ignore[reportArgumentType]
    if validation is not None:
        held_out = as_device_data(validation, "validation", everywhere, own, owner)
        require_some_weight(owner, "validation", held_out)
        check("validation", validation)
    source = _source(settings, create, data, rows, held_out, interrupts, check)
    trees = {"data": rows, "validation": held_out, "key": key, "params": params}
    if settings.hyperparams:
        trees["hyperparams"] = dict(settings.hyperparams)
    checkpoints = _open_checkpoints(settings, trees, source)
    try:
        _train_and_save(settings, source, checkpoints, interrupts)
        fitted = result(source.member, source.history, validated)
        if not all_well(source):
            source.fail(fitted)
        source.require_all(fitted)
        interrupts.look()
    except BaseException as error:
        keep_result(error, source, create, validated)
        raise
    return fitted


def _train_and_save(
    settings: Settings,
    source: Arrays | Stream,
    checkpoints: Checkpoints | None,
    interrupts: Interrupts,
) -> None:
    """Trains to the end; the last checkpoint is on disk afterwards."""
    if checkpoints is None:
        return train(settings, source, None, interrupts)
    try:
        source.resume(checkpoints)
        train(settings, source, checkpoints, interrupts)
    except BaseException:
        with contextlib.suppress(Exception):  # what stopped the run says more
            checkpoints.close()
        raise
    checkpoints.close()


def _first_member(settings: Settings, params: Params, key: Key, validated: bool) -> Member:
    start = jax.tree.map(lambda w: w if isinstance(w, jax.Array) else to_device(w), params)
    own = {name: to_device(value) for name, value in settings.hyperparams.items()}
    return first_member(settings.plan(1, 1), start, key, validated, own)


def _source(
    settings: Settings,
    create: Callable[[], Member],
    data: Any,
    rows: Batch | None,
    validation: Batch | None,
    interrupts: Interrupts,
    check: DataCheck,
) -> Arrays | Stream:
    """The arrays or the stream, with the members before the first step."""
    size = None if rows is None else _batch_size(settings, rows)
    told = "batch_size"
    if size is not None and size < settings.batch_size:
        told = f"batch_size {settings.batch_size}, of which the data fill {size}"
    check_shares(
        settings.mesh,
        members=settings.members,
        batch_size=size,
        where=settings.owner,
        names=("the number of members", told),
    )
    epochs = settings.epochs or 1
    if rows is not None and size is not None and settings.steps is not None:
        epochs = -(-settings.steps // -(-num_rows(rows, settings.per_member) // size))
    plan = settings.plan(settings.batch_size if size is None else size, epochs)
    member = create()
    if rows is None:
        return Stream(plan, data, member, validation, settings.owner, interrupts, check)
    return Arrays(plan, member, rows, validation)


def _batch_size(settings: Settings, rows: Batch) -> int:
    return min(settings.batch_size, num_rows(rows, settings.per_member))


def _open_checkpoints(
    settings: Settings, trees: dict[str, Any], source: Arrays | Stream
) -> Checkpoints | None:
    if settings.checkpoint_dir is None:
        return None
    rows = trees["data"]
    size = "the stream's" if rows is None else _batch_size(settings, rows)
    optimizer_state = jax.eval_shape(lambda: source.member.train.opt_state)
    told = describe_run(
        settings.told(size), **trees, optimizer_state=optimizer_state, metric=source.metrics()
    )
    return Checkpoints(
        settings.checkpoint_dir,
        told,
        owner=settings.owner,
        every=settings.checkpoint_every,
        resume=settings.resume,
        shared=shared_by_processes(settings),
    )


def typed_key(key: Any, where: str) -> Key:
    """Returns the key of a run; the older kind of key (two integers) becomes a typed one."""
    if isinstance(key, (jax.Array, np.ndarray)):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ():
            return key
        if key.dtype == np.uint32 and key.shape == (2,):
            return jax.random.wrap_key_data(key)
    got = f"an array {key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
    raise ValueError(f"{where}: key must be one key, such as jax.random.key(0); got {got}.")
