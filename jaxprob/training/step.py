"""One optimisation step: the piece that every training loop repeats.

Two protocols between a loss and its training live here.

A `Loss` of `jaxprob.types` says whether it wants the number of steps taken so far, int32 `[]`, as
`batch["step"]`, and how the model is evaluated for validation. Of a plain function the attributes
`uses_step` and `evaluate` say it; a wrapper around a loss must carry them on (`functools.wraps`
does, a lambda and `functools.partial` don't). What `functools.wraps` carries on is the evaluation
of the loss inside: where the wrapper changes the value, write `Loss(wrapper, wrapper, uses_step)`.

Collections (batch statistics and their like): where the trained pytree is a dict with the entry
"collections", that entry is neither differentiated nor given to the optimiser. The loss returns its
new value as `metrics["collections"]`; a loss that returns none leaves it as it is.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.operations.linen import fast_convolutions
from jaxprob.training.protocol import (
    COLLECTIONS,
    checked_result,
    explain_key_error,
    require_loss,
    require_optimizer,
)
from jaxprob.training.values import require_representable
from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params, summary

__all__ = [
    "Proposal",
    "TrainState",
    "apply_gradient",
    "evaluate",
    "make_step",
    "propose",
    "remains_finite",
    "require_trainable",
]

LARGE = 16
"""Arrays of fewer numbers are looked at one by one."""


class TrainState(NamedTuple):
    """What the next step needs.

    Attributes:
      params: Pytree of parameters, with the entry "collections" where the model has some.
      opt_state: State of the optimiser (which knows nothing of the collections).
      step: Number of steps taken, int32 `[]`.
    """

    params: Params
    opt_state: Any
    step: Array

    def __repr__(self) -> str:
        return summary("TrainState", **self._asdict())

    @classmethod
    def create(cls, params: Params, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state before the first step, in copies: a step donates what it is given.

        Raises:
          ValueError: A leaf of the params that is no float, outside of the collections.
        """
        require_trainable("TrainState.create", params)
        trained, _ = _split_collections(params)
        state = cls(params, optimizer.init(trained), jnp.zeros((), jnp.int32))
        return jax.tree.map(jnp.copy, state)


class Proposal(NamedTuple):
    """A step before anybody has looked whether it is finite.

    Attributes:
      loss: Value before the step.
      metrics: What the loss reports, without the collections.
      gradient: Of the loss, with respect to all but the collections.
      state: State after the step.
    """

    loss: Array
    metrics: Metrics
    gradient: Params
    state: TrainState


def evaluate(
    loss_fn: LossFn, params: Params, batch: Batch, key: Key, step: Array | int
) -> tuple[Array, Metrics, Any]:
    """Calls a loss by the two protocols above.

    Args:
      loss_fn: The loss.
      params: Pytree, collections included.
      batch: Arrays with leading axis B.
      key: Randomness of the loss.
      step: Number of steps taken so far.

    Returns:
      The loss, its metrics, and the new collections (None where the loss returns none).

    Raises:
      ValueError: A loss that wants `batch["step"]` without saying so, or data with that name; one
        that reads an entry that is not there; one that returns anything but a scalar and a dict of
        scalars, or metrics named as what `training` itself reports.
    """
    uses_step = getattr(loss_fn, "uses_step", False)
    if uses_step:
        if "step" in batch:
            raise ValueError(
                'training: the loss follows a schedule and takes the number of steps from batch["'
                'step"], but the data have an entry "step" of their own. Rename that entry.'
            )
        batch = {**batch, "step": jnp.asarray(step, jnp.int32)}
    try:
        # A jitted loss is traced once for each shape, however often the loop around it is.
        with fast_convolutions():
            returned = jax.jit(loss_fn, inline=True)(params, batch, key)
    except KeyError as error:
        explain_key_error(error, params, batch)
        raise
    loss, metrics = checked_result(returned)
    return loss, metrics, metrics.pop(COLLECTIONS, None)


def propose(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    key: Key,
) -> Proposal:
    """Computes one step.

    Args:
      loss_fn: The loss.
      optimizer: Any optax transformation; those that search along a line (L-BFGS) may call the loss
        again, with the same batch and the same key.
      state: State before the step.
      batch: Arrays with leading axis B.
      key: Randomness of the loss.
    """
    trained, collections = _split_collections(state.params)

    def loss_of(trained: Params):
        params = _join_collections(trained, collections, state.params)
        loss, metrics, new = evaluate(loss_fn, params, batch, key, state.step)
        return loss, (metrics, new)

    (loss, (metrics, new)), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained)
    collections = _checked_collections(collections, new)
    # some transformations also look at the value of the loss, or evaluate it once more
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradient,
        state.opt_state,
        trained,
        value=loss,
        grad=gradient,
        value_fn=lambda trained: loss_of(trained)[0],
    )
    params = _join_collections(optax.apply_updates(trained, updates), collections, state.params)
    return Proposal(loss, metrics, gradient, TrainState(params, opt_state, state.step + 1))


def apply_gradient(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    key: Key,
    wanted: Array | bool = True,
    undo: bool = True,
) -> tuple[TrainState, Metrics, Array]:
    """Takes one step, or none where something in it is not finite.

    Args:
      loss_fn: The loss.
      optimizer: Any optax transformation.
      state: State before the step.
      batch: Arrays with leading axis B.
      key: Randomness of the loss.
      wanted: Boolean `[]`; False leaves the state as it was, whatever the step gives.
      undo: Whether a step that is not wanted or not finite leaves the state as it was. False is for
        those who have kept a copy and will ask `remains_finite`: the new state is written over the
        old one, and only the loss, its metrics and its gradient are looked at.

    Returns:
      The new state (the old one where loss, metrics, gradient, new params, new collections or new
      optimiser state are not finite), the metrics with "loss" first, and a boolean `[]`: whether
      the step was finite.
    """
    loss, metrics, gradient, new = propose(loss_fn, optimizer, state, batch, key)
    finite = _all_finite((loss, metrics, gradient))
    if undo:
        finite = finite & remains_finite(state, new)
        new = jax.tree.map(lambda a, b: jnp.where(finite & wanted, a, b), new, state)
    return new, {"loss": loss, **metrics}, finite


def remains_finite(before: TrainState, after: TrainState) -> Array:
    """Whether the params are finite, and no more of the optimiser's state than before is not.

    What some optimisers start from is infinite, or becomes finite number by number. A state with
    the shape of params, such as a mean of gradients, is so all at once: its first number tells.
    """
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(after.params)}
    pairs = zip(jax.tree.leaves(before.opt_state), jax.tree.leaves(after.opt_state), strict=True)
    kept = _all_finite(after.params)
    for old, new in pairs:
        if not _is_inexact(new):
            continue
        if jnp.shape(new) in shapes and jnp.size(new) >= LARGE:
            kept = kept & (_is_finite(new) | ~jnp.isfinite(jnp.ravel(old)[0]))
        else:
            kept = kept & (_num_infinite(new) <= _num_infinite(old))
    return kept


def _num_infinite(leaf: Array) -> Array:
    return jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32)


def _all_finite(tree: Any) -> Array:
    every = [_is_finite(leaf) for leaf in jax.tree.leaves(tree) if _is_inexact(leaf)]
    return functools.reduce(jnp.logical_and, every, jnp.asarray(True))


def _is_finite(leaf: Array) -> Array:
    """Whether all of an array is finite, as one product: it compiles and runs faster than `all`.

    The product of 2^60 finite numbers with 2^-60 is finite, in whatever order they are added.
    """
    leaf = jnp.asarray(leaf)
    if leaf.size < LARGE or jnp.iscomplexobj(leaf):
        return jnp.all(jnp.isfinite(leaf))
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)).ravel()
    return jnp.isfinite(jnp.vdot(wide, jnp.full_like(wide, 2.0**-60)))


def newly_infinite(old: Array, new: Array) -> Array:
    """Where a number of the optimiser has stopped being finite; some start at infinity."""
    return ~jnp.isfinite(new) & jnp.isfinite(old)


def make_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch, Key], tuple[TrainState, Metrics]]:
    """Returns the single jitted step, for those who write their own loop.

    Args:
      loss_fn: `loss_fn(params, batch, key) -> (loss, metrics)`; `uses_step` and collections as in
        `fit`.
      optimizer: Any optax transformation.

    Returns:
      `step(state, batch, key) -> (state, metrics)`; start from `TrainState.create(params,
      optimizer)`. The old state is donated: use the returned one. A step whose loss, metrics,
      gradient, new params or new optimiser state are not finite leaves the state as it was and has
      `metrics["finite"]` False.
    """
    require_loss("make_step", loss_fn)
    require_optimizer("make_step", optimizer)

    @functools.partial(jax.jit, donate_argnums=0)
    def compiled(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        state, metrics, finite = apply_gradient(loss_fn, optimizer, state, batch, key)
        if "finite" in metrics:
            raise ValueError(
                'make_step: the loss reports a metric named "finite", which says whether a step '
                "was finite. Give the metric another name."
            )
        return state, {**metrics, "finite": finite}

    @functools.wraps(compiled)
    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        for name, value in batch.items():
            require_representable("make_step", f'batch["{name}"]', value)
        return compiled(state, batch, key)

    return step


def _split_collections(params: Params) -> tuple[Params, Any]:
    """What is trained, and the collections or None."""
    if not isinstance(params, Mapping) or COLLECTIONS not in params:
        return params, None
    trained = {name: p for name, p in params.items() if name != COLLECTIONS}
    return trained, params[COLLECTIONS]


def _join_collections(trained: Params, collections: Any, like: Params) -> Params:
    """The pytree as it came: a FrozenDict stays one, and an OrderedDict keeps its order."""
    if collections is None:
        return trained
    whole = {**trained, COLLECTIONS: collections}
    entries = {name: whole[name] for name in like}
    return entries if isinstance(like, dict) and type(like) is dict else type(like)(entries)


def require_trainable(owner: str, params: Params) -> None:
    """Raises a `ValueError` for a leaf without a gradient, such as a counter, outside collections.

    Args:
      owner: Who asks, for messages.
      params: Pytree of arrays or of their shapes, collections included.
    """
    trained, _ = _split_collections(params)
    leaves = jax.tree_util.tree_leaves_with_path(trained)
    if not leaves:
        raise ValueError(f"{owner}: params holds no arrays; there is nothing to train.")
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                f"{owner}: params{jax.tree_util.keystr(path)} has dtype {dtype}, which has no "
                'gradient; expected floats. Give it as floats, or keep it in params["collections"] '
                "(counters and other state), which is not trained."
            )


def _checked_collections(old: Any, new: Any) -> Any:
    """The collections after a step, in the dtypes that they started with, as with params."""
    if new is None:
        return old
    if old is None:
        raise ValueError(
            'training: the loss returns metrics["collections"], but the params have no entry '
            '"collections" to keep them in. Start from {**params, "collections": {...}}.'
        )
    before, after = _describe(old), _describe(new)
    if before != after:
        names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
        listed = ", ".join(f"{n}: {before.get(n)} -> {after.get(n)}" for n in names[:4])
        raise ValueError(
            'training: metrics["collections"] must have the entries and shapes of params["'
            f'collections"]; got {listed}. Return all collections, those that did not change too.'
        )
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    leaves = [jnp.asarray(b, jnp.result_type(a)) for a, b in pairs]
    return jax.tree.unflatten(jax.tree.structure(old), leaves)


def _describe(tree: Any) -> dict[str, str]:
    return {
        jax.tree_util.keystr(path): str(list(jnp.shape(leaf)))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _is_inexact(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
