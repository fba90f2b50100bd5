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

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["Proposal", "TrainState", "apply_gradient", "evaluate", "make_step", "propose"]

COLLECTIONS = "collections"


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

    @classmethod
    def create(cls, params: Params, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state before the first step, in copies: a step donates what it is given."""
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
      ValueError: A loss that wants `batch["step"]` without saying so, or data with that name.
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
        loss, metrics = jax.jit(loss_fn, inline=True)(params, batch, key)
    except KeyError as error:
        if uses_step or error.args != ("step",):
            raise
        raise ValueError(
            'training: the loss reads batch["step"], but has no attribute uses_step = True, so '
            "nobody counts for it. Where it wraps another loss, wrap it with functools.wraps or "
            "set loss_fn.uses_step = True on the wrapper."
        ) from error
    metrics = dict(metrics)
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
        params = _join_collections(trained, collections)
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
    params = _join_collections(optax.apply_updates(trained, updates), collections)
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
        those who have kept a copy: the new state is written over the old one.

    Returns:
      The new state (the old one where loss, metrics, gradient, new params, new collections or new
      optimiser state are not finite), the metrics with "loss" first, and a boolean `[]`: whether
      the step was finite.
    """
    loss, metrics, gradient, new = propose(loss_fn, optimizer, state, batch, key)
    # One number that is finite exactly when all are (short of an overflow of their sum).
    leaves = [x for x in jax.tree.leaves((gradient, new.params, metrics)) if _is_inexact(x)]
    finite = jnp.isfinite(sum((jnp.sum(leaf) for leaf in leaves), start=loss))
    for old_leaf, new_leaf in _inexact_pairs(state.opt_state, new.opt_state):
        finite = finite & ~newly_infinite(jnp.sum(old_leaf), jnp.sum(new_leaf))
    if undo:
        new = jax.tree.map(lambda a, b: jnp.where(finite & wanted, a, b), new, state)
    return new, {"loss": loss, **metrics}, finite


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

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        state, metrics, finite = apply_gradient(loss_fn, optimizer, state, batch, key)
        return state, {**metrics, "finite": finite}

    return jax.jit(step, donate_argnums=0)


def _split_collections(params: Params) -> tuple[Params, Any]:
    """What is trained, and the collections or None."""
    if not isinstance(params, Mapping) or COLLECTIONS not in params:
        return params, None
    return {name: p for name, p in params.items() if name != COLLECTIONS}, params[COLLECTIONS]


def _join_collections(trained: Params, collections: Any) -> Params:
    return trained if collections is None else {**trained, COLLECTIONS: collections}


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


def _inexact_pairs(old: Any, new: Any) -> list[tuple[Array, Array]]:
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    return [(a, b) for a, b in pairs if _is_inexact(a)]
