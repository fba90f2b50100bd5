"""What a run gives back, also to the error that ended it."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.training.arrays import Arrays
from jaxprob.training.plan import Member
from jaxprob.training.step import TrainState
from jaxprob.training.stream import Stream
from jaxprob.types import Array, Params, summary

__all__ = ["Fitted", "keep_result", "result"]


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

    def __repr__(self) -> str:
        return summary("Fitted", **self._asdict())


def result(member: Member, history: dict[str, np.ndarray], validated: bool) -> Fitted:
    """The result of members that stand where they stand."""
    train = member.train
    params = jax.tree.map(_copied, train.params)  # they outlive a step that donates the state
    return Fitted(params, member.best_params if validated else params, train, history)


def _copied(leaf: Array) -> Array:
    """A copy; `jnp.copy` would compile a program for each shape."""
    if len(leaf.devices()) > 1:
        return jnp.copy(leaf)
    return jax.device_put(leaf, may_alias=False)


def keep_result(
    error: BaseException,
    source: Arrays | Stream,
    create: Callable[[], Member],
    validated: bool,
) -> None:
    """Gives an error the result so far as its attribute `fitted`."""
    if hasattr(error, "fitted"):
        return
    with contextlib.suppress(Exception):  # nothing may stand in the place of what stopped the run
        try:
            member, history = source.latest()
            fitted = jax.block_until_ready(result(member, history, validated))
        except Exception:  # the program failed within, and the state that it wrote over is lost
            fitted = result(create(), {}, validated)
            error.add_note("The state was lost with the program; error.fitted holds the start.")
        error.fitted = fitted  # pyright: ignore[reportAttributeAccessIssue]
