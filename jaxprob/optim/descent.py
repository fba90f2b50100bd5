"""SGD with momentum, and Rprop, which follows the sign of the gradient.

SGD:

    b_1 = g_1,  b_t = momentum b_{t-1} + (1 - dampening) g_t
    d_t = g_t + momentum b_t  (nesterov)  or  b_t
    p_t = p_{t-1} - lr d_t

Rprop, element by element, with step sizes h_0 = lr:

    h_t = clip(h_{t-1} eta, min, max),  eta = eta+, 1, eta-  as  g_t g_{t-1} >, =, < 0
    g_t <- 0  where the sign has turned
    p_t = p_{t-1} - sign(g_t) h_t

Sources: Sutskever, Martens, Dahl & Hinton 2013, section 2; Riedmiller & Braun 1993, without its
weight backtracking; `torch.optim.SGD`, `torch.optim.Rprop`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import Number, Schedule, check, check_non_negative, is_zero, value_at
from jaxprob.optim.arithmetic import (
    advance,
    combine,
    first_step,
    leafwise,
    like,
    objective_gradient,
    zeros_like,
)
from jaxprob.types import Array, ArrayLike, Params, summary

__all__ = ["RpropState", "SGDState", "rprop", "sgd"]


class SGDState(NamedTuple):
    """State of `sgd`; torch keeps the buffer only, and leaves counting to its schedulers."""

    step: Array  # shape=(), dtype=int32
    momentum_buffer: Params  # like params; None without momentum

    def __repr__(self) -> str:
        return summary("SGDState", **self._asdict())


class RpropState(NamedTuple):
    """State of `rprop`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    prev: Params  # like params
    step_size: Params  # like params

    def __repr__(self) -> str:
        return summary("RpropState", **self._asdict())


def sgd(
    lr: ArrayLike | Schedule = 1e-3,
    momentum: ArrayLike | Schedule = 0.0,
    dampening: ArrayLike = 0.0,
    weight_decay: ArrayLike | Schedule = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.SGD`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.sgd`: `dampening`, from which the first step is exempt, and `weight_decay`.

    Args:
        lr: step size, or a schedule of it.
        momentum: decay of the buffer, or a schedule of it, such as `schedules.one_cycle_momentum`.
        dampening: the share of each gradient but the first that the buffer leaves out.
        weight_decay: coefficient of the L2 penalty.
        nesterov: look ahead along the buffer.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts, or `nesterov` is asked for
            without momentum or with dampening.
    """
    check_non_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
    check("dampening", dampening, lambda x: x == x, "a number")
    has_momentum = not is_zero(momentum)
    if nesterov and not has_momentum:
        raise ValueError(f"momentum: expected > 0 with nesterov=True, got {momentum!r}; try .9")
    if nesterov and not is_zero(dampening):
        raise ValueError(f"dampening: expected 0 with nesterov=True, got {dampening!r}; drop it")

    def init(params: Params) -> SGDState:
        return SGDState(first_step(), zeros_like(params) if has_momentum else None)

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, SGDState]:
        rate, inertia = value_at(lr, state.step), value_at(momentum, state.step)
        decay = value_at(weight_decay, state.step)
        gradient = objective_gradient(updates, params, decay, maximize)
        step = advance(state.step)
        if not has_momentum:
            # in the dtype of what came in, which the gradient may have left for float32
            step_down = combine(lambda g, _: -like(rate, g) * g, gradient, updates)
            return step_down, SGDState(step, None)
        share = jnp.where(state.step == 0, 1.0, 1 - value_at(dampening, state.step))

        def leaf(g, buffer):
            buffer = like(inertia, g) * buffer + like(share, g) * g
            direction = g + like(inertia, g) * buffer if nesterov else buffer
            return -like(rate, g) * direction, buffer

        updates, buffer = leafwise(leaf, gradient, state.momentum_buffer)
        return updates, SGDState(step, buffer)

    return optax.GradientTransformation(init, update)


def rprop(
    lr: ArrayLike | Schedule = 1e-2,
    etas: tuple[Number, Number] = (0.5, 1.2),
    step_sizes: tuple[Number, Number] = (1e-6, 50.0),
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Rprop`: as in the module's docstring.

    Beside `optax.rprop`, which in 0.2.8 emits each update one step late (optax PR 1725).

    Args:
        lr: first step size of every element. As in torch it is read once: a schedule counts for
            its first value only.
        etas: factors (eta-, eta+) by which a step size shrinks and grows.
        step_sizes: smallest and largest step size.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts, or `step_sizes` is not
            ordered.
    """
    check_non_negative(lr=lr)
    for name, pair in (("etas", etas), ("step_sizes", step_sizes)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"{name}: expected a pair, got {pair!r}; try the default")
    if not 0 < etas[0] < 1 < etas[1]:
        raise ValueError(f"etas: expected 0 < eta- < 1 < eta+, got {etas!r}; try (0.5, 1.2)")
    if not 0 <= step_sizes[0] <= step_sizes[1]:
        raise ValueError(f"step_sizes: expected 0 <= min <= max, got {step_sizes!r}; swap them?")
    shrink, grow = etas

    def init(params: Params) -> RpropState:
        first = value_at(lr, first_step())
        sizes = jax.tree.map(lambda zero: zero + like(first, zero), zeros_like(params))
        return RpropState(first_step(), prev=zeros_like(params), step_size=sizes)

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, RpropState]:
        del params

        def leaf(g, prev, size):
            agreement = g * prev
            factor = jnp.where(agreement > 0, grow, jnp.where(agreement < 0, shrink, 1.0))
            size = jnp.clip(size * factor.astype(size.dtype), *step_sizes)
            g = jnp.where(agreement < 0, 0.0, g)
            return -jnp.sign(g) * size, g, size

        gradient = objective_gradient(updates, None, 0.0, maximize)
        updates, prev, sizes = leafwise(leaf, gradient, state.prev, state.step_size)
        return updates, RpropState(advance(state.step), prev, sizes)

    return optax.GradientTransformation(init, update)
