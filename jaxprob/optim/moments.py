"""Adam and AdamW, with and without AMSGrad, and Adamax.

All keep m_t = b1 m_{t-1} + (1 - b1) g_t. Adam:

    v_t = b2 v_{t-1} + (1 - b2) g_t^2
    p_t = p_{t-1} - lr/(1 - b1^t) m_t / (sqrt(v_t) / sqrt(1 - b2^t) + eps)

AMSGrad puts max_{s <= t} v_s (raw, not bias-corrected) for v_t in the last line. Adamax:

    u_t = max(b2 u_{t-1}, |g_t| + eps)
    p_t = p_{t-1} - lr/(1 - b1^t) m_t / u_t

Sources: Kingma & Ba 2015 (arXiv:1412.6980), Algorithms 1 and 2; Loshchilov & Hutter 2019
(arXiv:1711.05101), Algorithm 2; Reddi, Kale & Kumar 2018, Algorithm 2; `torch.optim.Adam`,
`torch.optim.AdamW`, `torch.optim.Adamax`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import Schedule, check_betas, check_non_negative, is_zero, value_at
from jaxprob.optim.arithmetic import (
    advance,
    bias_correction,
    decayed,
    ema,
    first_step,
    leafwise,
    like,
    objective_gradient,
    zeros_like,
)
from jaxprob.types import Array, ArrayLike, Params, summary

__all__ = ["AdamState", "AdamaxState", "adam", "adamax", "adamw"]


class AdamState(NamedTuple):
    """State of `adam` and `adamw`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    exp_avg: Params  # like params
    exp_avg_sq: Params  # like params
    max_exp_avg_sq: Params  # like params; None without amsgrad

    def __repr__(self) -> str:
        return summary("AdamState", **self._asdict())


class AdamaxState(NamedTuple):
    """State of `adamax`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    exp_avg: Params  # like params
    exp_inf: Params  # like params

    def __repr__(self) -> str:
        return summary("AdamaxState", **self._asdict())


def adam(
    lr: ArrayLike | Schedule = 1e-3,
    betas: tuple[ArrayLike | Schedule, ArrayLike | Schedule] = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 0.0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adam`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.adam` the bias correction is exact in float32, and `weight_decay` is the L2
    penalty that goes through both moments (AdamW's is `adamw`).

    Args:
        lr: step size, or a schedule of it.
        betas: decay of the first and second moment; either may be a schedule, such as
            `schedules.one_cycle_momentum`.
        eps: added to the denominator, outside the square root.
        weight_decay: coefficient of the L2 penalty.
        amsgrad: divide by the largest second moment so far.
        maximize: ascend instead of descend.
        decoupled_weight_decay: shrink the parameters as AdamW does.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts.
    """
    check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas(betas)
    decouple = decoupled_weight_decay and not is_zero(weight_decay)

    def init(params: Params) -> AdamState:
        return AdamState(
            step=first_step(),
            exp_avg=zeros_like(params),
            exp_avg_sq=zeros_like(params),
            max_exp_avg_sq=zeros_like(params) if amsgrad else None,
        )

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, AdamState]:
        rate, decay = value_at(lr, state.step), value_at(weight_decay, state.step)
        beta1, beta2 = (value_at(beta, state.step) for beta in betas)
        floor = value_at(eps, state.step)
        step = advance(state.step)
        step_size = rate / bias_correction(beta1, step)
        scale = jnp.sqrt(bias_correction(beta2, step))

        def leaf(g, m, v, *largest):
            m = ema(m, g, beta1)
            v = like(beta2, v) * v + like(1 - beta2, v) * (g * g)
            largest = tuple(jnp.maximum(x, v) for x in largest)
            second = largest[0] if amsgrad else v
            denominator = jnp.sqrt(second) / like(scale, v) + like(floor, v)
            return -like(step_size, m) * (m / denominator), m, v, *largest

        gradient = objective_gradient(updates, params, 0.0 if decouple else decay, maximize)
        states = [state.exp_avg, state.exp_avg_sq, *([state.max_exp_avg_sq] if amsgrad else [])]
        updates, *states = decayed(leaf, gradient, states, params, rate * decay if decouple else 0)
        return updates, AdamState(step, *states, *(() if amsgrad else (None,)))

    return optax.GradientTransformation(init, update)


def adamw(
    lr: ArrayLike | Schedule = 1e-3,
    betas: tuple[ArrayLike | Schedule, ArrayLike | Schedule] = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.AdamW`: as in the module's docstring, after p <- p - lr weight_decay p.

    The default `weight_decay` is torch's 1e-2; `optax.adamw` has 1e-4. Arguments as in `adam`.
    """
    return adam(
        lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True
    )


def adamax(
    lr: ArrayLike | Schedule = 2e-3,
    betas: tuple[ArrayLike | Schedule, ArrayLike | Schedule] = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 0.0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.Adamax`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.adamax` the bias correction is exact in float32. Arguments as in `adam`, but
    `eps` is added to |g_t| inside the maximum.
    """
    check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas(betas)

    def init(params: Params) -> AdamaxState:
        return AdamaxState(first_step(), exp_avg=zeros_like(params), exp_inf=zeros_like(params))

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, AdamaxState]:
        beta1, beta2 = (value_at(beta, state.step) for beta in betas)
        floor = value_at(eps, state.step)
        step = advance(state.step)
        step_size = value_at(lr, state.step) / bias_correction(beta1, step)

        def leaf(g, m, u):
            m = ema(m, g, beta1)
            u = jnp.maximum(like(beta2, u) * u, jnp.abs(g) + like(floor, u))
            return -like(step_size, m) * (m / u), m, u

        decay = value_at(weight_decay, state.step)
        gradient = objective_gradient(updates, params, decay, maximize)
        updates, exp_avg, exp_inf = leafwise(leaf, gradient, state.exp_avg, state.exp_inf)
        return updates, AdamaxState(step, exp_avg, exp_inf)

    return optax.GradientTransformation(init, update)
