"""RMSprop, Adagrad and Adadelta: gradients divided by the root of their running mean square.

RMSprop, with a_t = 0 unless centred, and b_t = d_t without momentum:

    v_t = alpha v_{t-1} + (1 - alpha) g_t^2
    a_t = alpha a_{t-1} + (1 - alpha) g_t
    d_t = g_t / (sqrt(v_t - a_t^2) + eps)
    b_t = momentum b_{t-1} + d_t
    p_t = p_{t-1} - lr b_t

Adagrad:

    s_t = s_{t-1} + g_t^2
    p_t = p_{t-1} - lr/(1 + (t - 1) lr_decay) g_t / (sqrt(s_t) + eps)

Adadelta:

    v_t = rho v_{t-1} + (1 - rho) g_t^2
    d_t = sqrt(u_{t-1} + eps) / sqrt(v_t + eps) g_t
    u_t = rho u_{t-1} + (1 - rho) d_t^2
    p_t = p_{t-1} - lr d_t

Sources: Hinton 2012 (Coursera, lecture 6) and, for the centred form, Graves 2013
(arXiv:1308.0850), section 4.2; Duchi, Hazan & Singer 2011; Zeiler 2012 (arXiv:1212.5701),
Algorithm 1; `torch.optim.RMSprop`, `torch.optim.Adagrad`, `torch.optim.Adadelta`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import (
    Schedule,
    as_scalar,
    check,
    check_non_negative,
    is_zero,
    value_at,
)
from jaxprob.optim.arithmetic import (
    advance,
    ema,
    first_step,
    leafwise,
    like,
    objective_gradient,
    zeros_like,
)
from jaxprob.types import Array, ArrayLike, Params, summary

__all__ = ["AdadeltaState", "AdagradState", "RMSpropState", "adadelta", "adagrad", "rmsprop"]


class RMSpropState(NamedTuple):
    """State of `rmsprop`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    square_avg: Params  # like params
    momentum_buffer: Params  # like params; None without momentum
    grad_avg: Params  # like params; None unless centred

    def __repr__(self) -> str:
        return summary("RMSpropState", **self._asdict())


class AdagradState(NamedTuple):
    """State of `adagrad`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    sum: Params  # like params

    def __repr__(self) -> str:
        return summary("AdagradState", **self._asdict())


class AdadeltaState(NamedTuple):
    """State of `adadelta`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    square_avg: Params  # like params
    acc_delta: Params  # like params

    def __repr__(self) -> str:
        return summary("AdadeltaState", **self._asdict())


def rmsprop(
    lr: ArrayLike | Schedule = 1e-2,
    alpha: ArrayLike = 0.99,
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 0.0,
    momentum: ArrayLike | Schedule = 0.0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.RMSprop`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.rmsprop`: `alpha` is .99 (not .9), `eps` stands outside the root, and the learning
    rate multiplies the momentum buffer instead of going into it, which matters once `lr` varies.

    Args:
        lr: step size, or a schedule of it.
        alpha: decay of the running averages.
        eps: added to the denominator, outside the square root.
        weight_decay: coefficient of the L2 penalty.
        momentum: decay of the buffer, or a schedule of it.
        centered: divide by the running standard deviation instead of the root mean square.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts.
    """
    check_non_negative(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
    has_momentum = not is_zero(momentum)

    def init(params: Params) -> RMSpropState:
        return RMSpropState(
            step=first_step(),
            square_avg=zeros_like(params),
            momentum_buffer=zeros_like(params) if has_momentum else None,
            grad_avg=zeros_like(params) if centered else None,
        )

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, RMSpropState]:
        rate, inertia = value_at(lr, state.step), value_at(momentum, state.step)
        keep, floor = value_at(alpha, state.step), value_at(eps, state.step)

        def leaf(g, v, *optional):
            v = like(keep, v) * v + like(1 - keep, v) * (g * g)
            variance, kept = v, ()
            if centered:
                mean = ema(optional[-1], g, keep)
                variance, kept = v - mean * mean, (mean,)
            direction = g / (jnp.sqrt(variance) + like(floor, v))
            if not has_momentum:
                return -like(rate, g) * direction, v, *kept
            buffer = like(inertia, g) * optional[0] + direction
            return -like(rate, g) * buffer, v, buffer, *kept

        decay = value_at(weight_decay, state.step)
        gradient = objective_gradient(updates, params, decay, maximize)
        optional = [tree for tree in (state.momentum_buffer, state.grad_avg) if tree is not None]
        updates, square_avg, *optional = leafwise(leaf, gradient, state.square_avg, *optional)
        return updates, RMSpropState(
            step=advance(state.step),
            square_avg=square_avg,
            momentum_buffer=optional[0] if has_momentum else None,
            grad_avg=optional[-1] if centered else None,
        )

    return optax.GradientTransformation(init, update)


def adagrad(
    lr: ArrayLike | Schedule = 1e-2,
    lr_decay: ArrayLike = 0.0,
    weight_decay: ArrayLike | Schedule = 0.0,
    initial_accumulator_value: ArrayLike = 0.0,
    eps: ArrayLike = 1e-10,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adagrad`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.adagrad`: the sum starts at 0 (not .1), `eps` stands outside the root, and there
    is `lr_decay`.

    Args:
        lr: step size, or a schedule of it.
        lr_decay: how fast the step size falls with the number of updates.
        weight_decay: coefficient of the L2 penalty.
        initial_accumulator_value: s_0.
        eps: added to the denominator, outside the square root.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts.
    """
    check_non_negative(
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        initial_accumulator_value=initial_accumulator_value,
        eps=eps,
    )

    def init(params: Params) -> AdagradState:
        start = value_at(initial_accumulator_value, first_step())
        total = jax.tree.map(lambda zero: zero + like(start, zero), zeros_like(params))
        return AdagradState(first_step(), total)

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, AdagradState]:
        floor = value_at(eps, state.step)
        slowing = 1 + as_scalar(state.step) * value_at(lr_decay, state.step)
        rate = value_at(lr, state.step) / slowing

        def leaf(g, total):
            total = total + g * g
            return -like(rate, g) * (g / (jnp.sqrt(total) + like(floor, g))), total

        decay = value_at(weight_decay, state.step)
        gradient = objective_gradient(updates, params, decay, maximize)
        updates, total = leafwise(leaf, gradient, state.sum)
        return updates, AdagradState(advance(state.step), total)

    return optax.GradientTransformation(init, update)


def adadelta(
    lr: ArrayLike | Schedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: ArrayLike | Schedule = 0.0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adadelta`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Args:
        lr: factor of the step, or a schedule of it.
        rho: decay of both running averages.
        eps: added inside both square roots; it sets the size of the first steps.
        weight_decay: coefficient of the L2 penalty.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts.
    """
    check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    check("rho", rho, lambda x: 0 <= x <= 1, "a number in [0, 1]", "try .9")

    def init(params: Params) -> AdadeltaState:
        return AdadeltaState(first_step(), zeros_like(params), zeros_like(params))

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, AdadeltaState]:
        rate = value_at(lr, state.step)
        keep, floor = value_at(rho, state.step), value_at(eps, state.step)

        def leaf(g, v, u):
            v = like(keep, v) * v + like(1 - keep, v) * (g * g)
            step = jnp.sqrt(u + like(floor, u)) / jnp.sqrt(v + like(floor, v)) * g
            u = like(keep, u) * u + like(1 - keep, u) * (step * step)
            return -like(rate, step) * step, v, u

        decay = value_at(weight_decay, state.step)
        gradient = objective_gradient(updates, params, decay, maximize)
        updates, *averages = leafwise(leaf, gradient, state.square_avg, state.acc_delta)
        return updates, AdadeltaState(advance(state.step), *averages)

    return optax.GradientTransformation(init, update)
