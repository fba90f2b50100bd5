"""One optimisation step: the piece that every training loop repeats."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.types import Array, Batch, Key, LossFn, Metrics, Params

__all__ = ["TrainState", "apply_gradient", "make_step"]


class TrainState(NamedTuple):
    """What the next step needs.

    Attributes:
      params: Pytree of parameters.
      opt_state: State of the optimiser.
      step: Number of steps taken, int32 `[]`.
    """

    params: Params
    opt_state: Any
    step: Array

    @classmethod
    def create(cls, params: Params, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state before the first step, in copies: a step donates what it is given."""
        state = cls(params, optimizer.init(params), jnp.zeros((), jnp.int32))
        return jax.tree.map(jnp.copy, state)


def apply_gradient(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    key: Key,
) -> tuple[TrainState, Metrics, Array]:
    """Takes one step, or none where the loss, its gradient or the new params are not finite.

    Args:
      loss_fn: The loss.
      optimizer: Any optax transformation.
      state: State before the step.
      batch: Arrays with leading axis B.
      key: Randomness of the loss.

    Returns:
      The new state (the old one where the step was not finite), the metrics with "loss" first, and
      a boolean `[]`: whether the step was finite.
    """
    # A jitted loss is traced once for each shape of a batch, however often the loop around it is.
    loss_fn = jax.jit(loss_fn, inline=True)
    (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, key)
    # some transformations (plateau schedules) also look at the value of the loss
    extended = optax.with_extra_args_support(optimizer)
    updates, opt_state = extended.update(gradient, state.opt_state, state.params, value=loss)
    params = optax.apply_updates(state.params, updates)
    # One number that is finite exactly when all are (short of an overflow of their sum).
    total = sum((jnp.sum(leaf) for leaf in jax.tree.leaves((gradient, params))), start=loss)
    finite = jnp.isfinite(total)
    new = TrainState(params, opt_state, state.step + 1)
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    return kept, {"loss": loss, **metrics}, finite


def make_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch, Key], tuple[TrainState, Metrics]]:
    """Returns the single jitted step, for those who write their own loop.

    Args:
      loss_fn: `loss_fn(params, batch, key) -> (loss, metrics)`.
      optimizer: Any optax transformation.

    Returns:
      `step(state, batch, key) -> (state, metrics)`; start from `TrainState.create(params,
      optimizer)`. The old state is donated: use the returned one. A step whose loss, gradient or
      new params are not finite leaves the state as it was and has `metrics["finite"]` False.
    """

    def step(state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        state, metrics, finite = apply_gradient(loss_fn, optimizer, state, batch, key)
        return state, {**metrics, "finite": finite}

    return jax.jit(step, donate_argnums=0)
