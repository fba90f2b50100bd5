"""A learning rate that falls when a metric stops improving."""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import Number, as_scalar, check, check_non_negative
from jaxprob.optim.arithmetic import advance, combine, first_step, like
from jaxprob.requirements import require_count
from jaxprob.types import Array, Params, summary

__all__ = ["ReduceLROnPlateauState", "reduce_lr_on_plateau"]


class ReduceLROnPlateauState(NamedTuple):
    """State of `reduce_lr_on_plateau`, in torch's names; floats are the widest enabled."""

    last_epoch: Array  # shape=(), dtype=int32; metrics seen
    best: Array  # shape=(), float
    num_bad_epochs: Array  # shape=(), dtype=int32
    cooldown_counter: Array  # shape=(), dtype=int32
    lr: Array  # shape=(), float; the rate of the next update
    value_sum: Array  # shape=(), float; not in torch: the values of the epoch so far
    value_count: Array  # shape=(), dtype=int32; not in torch: how many there are

    def __repr__(self) -> str:
        return summary("ReduceLROnPlateauState", **self._asdict())


def reduce_lr_on_plateau(
    lr: Number,
    mode: Literal["min", "max"] = "min",
    factor: Number = 0.1,
    patience: int = 10,
    threshold: Number = 1e-4,
    threshold_mode: Literal["rel", "abs"] = "rel",
    cooldown: int = 0,
    min_lr: Number = 0.0,
    eps: Number = 1e-8,
    *,
    accumulation_size: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """`ReduceLROnPlateau`, to stand after the optimiser in an `optax.chain`.

        tx = optax.chain(adam(lr), schedules.reduce_lr_on_plateau(lr, factor=0.5))
        updates, state = tx.update(grads, state, params, value=loss)

    The updates are scaled by the present rate over `lr`. Then, as `scheduler.step(value)` does
    after `optimizer.step()`, the value is judged, which counts from the next update on;
    `optax.contrib.reduce_on_plateau` judges first. A value is better if it is

        < best (1 - threshold)  "min", "rel"        < best - threshold  "min", "abs"
        > best (1 + threshold)  "max", "rel"        > best + threshold  "max", "abs"

    After more than `patience` values in a row that are not better, the rate becomes
    `max(lr * factor, min_lr)`, unless that changes it by `eps` or less, and `cooldown` values are
    not counted.

    Args:
        lr: the rate that the optimiser was given. Its updates must be proportional to it, as those
            of all in this package but `rprop` are.
        mode: whether the metric is to fall or to rise.
        factor: what the rate is multiplied by, < 1.
        patience: values in a row that may disappoint.
        threshold: how much better counts as better.
        threshold_mode: whether `threshold` is relative or absolute.
        cooldown: values to ignore after a reduction.
        min_lr: lowest rate.
        eps: smallest change of the rate that is made.
        accumulation_size: updates per epoch. The mean of that many values is judged as one, so a
            loop over batches reproduces a torch loop that steps the scheduler once an epoch.

    Returns:
        A transformation whose `update` needs `value=`; None leaves the rate as it is.

    Raises:
        ValueError: if an argument is outside the range that torch accepts.

    Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`.
    """
    check("lr", lr, lambda x: x > 0, "a number > 0", "pass the learning rate of the optimiser")
    check("factor", factor, lambda x: x < 1, "a number < 1", "try 0.1")
    require_count("reduce_lr_on_plateau", least=0, patience=patience, cooldown=cooldown)
    require_count("reduce_lr_on_plateau", accumulation_size=accumulation_size)
    check_non_negative(min_lr=min_lr, eps=eps)
    check("threshold", threshold, lambda x: x == x, "a number", "try 1e-4")
    if mode not in ("min", "max"):
        raise ValueError(f'mode: expected "min" or "max", got {mode!r}')
    if threshold_mode not in ("rel", "abs"):
        raise ValueError(f'threshold_mode: expected "rel" or "abs", got {threshold_mode!r}')
    slack = -threshold if mode == "min" else threshold

    def init(params: Params) -> ReduceLROnPlateauState:
        del params
        return ReduceLROnPlateauState(
            last_epoch=first_step(),
            best=as_scalar(math.inf if mode == "min" else -math.inf),
            num_bad_epochs=first_step(),
            cooldown_counter=first_step(),
            lr=as_scalar(lr),
            value_sum=as_scalar(0.0),
            value_count=first_step(),
        )

    def judge(state: ReduceLROnPlateauState, value: Array) -> ReduceLROnPlateauState:
        bar = state.best * (1.0 + slack) if threshold_mode == "rel" else state.best + slack
        better = value < bar if mode == "min" else value > bar
        cooling = state.cooldown_counter > 0
        bad = jnp.where(better | cooling, 0, state.num_bad_epochs + 1)
        reduce = bad > patience
        rest = jnp.maximum(state.cooldown_counter - 1, 0)
        lower = jnp.maximum(state.lr * factor, min_lr)
        return ReduceLROnPlateauState(
            last_epoch=advance(state.last_epoch),
            best=jnp.where(better, value, state.best),
            num_bad_epochs=jnp.where(reduce, 0, bad),
            cooldown_counter=jnp.where(reduce, cooldown, rest),
            lr=jnp.where(reduce & (state.lr - lower > eps), lower, state.lr),
            value_sum=as_scalar(0.0),
            value_count=first_step(),
        )

    def update(
        updates: Params, state: Any, params: Params | None = None, **extra: Any
    ) -> tuple[Params, ReduceLROnPlateauState]:
        del params
        if "value" not in extra:
            raise ValueError(
                "value: expected the metric to judge, got none; "
                "call `update(grads, state, params, value=loss)`"
            )
        scale = state.lr / lr
        updates = combine(lambda u: like(scale, u) * u, updates)
        if extra["value"] is None:
            return updates, state
        total = state.value_sum + as_scalar(extra["value"])
        count = state.value_count + 1
        waiting = state._replace(value_sum=total, value_count=count)
        judged = judge(state, total / accumulation_size)
        complete = count >= accumulation_size
        return updates, jax.tree.map(lambda a, b: jnp.where(complete, a, b), judged, waiting)

    return optax.GradientTransformationExtraArgs(init, update)
