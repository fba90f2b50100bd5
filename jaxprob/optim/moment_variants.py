"""NAdam and RAdam: Adam with a momentum warm-up, and with a rectified variance.

Both keep Adam's m_t and v_t. NAdam, with mu_t = b1 (1 - .96^(t momentum_decay) / 2) and
M_t = mu_1 ... mu_t:

    d_t = sqrt(v_t / (1 - b2^t)) + eps
    p_t = p_{t-1} - lr ( (1 - mu_t) / (1 - M_t) g_t + mu_{t+1} / (1 - M_{t+1}) m_t ) / d_t

RAdam, with rho_inf = 2/(1 - b2) - 1 and rho_t = rho_inf - 2 t b2^t / (1 - b2^t):

    r_t = sqrt( (rho_t - 4)(rho_t - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho_t) )
    p_t = p_{t-1} - lr m_t/(1 - b1^t) r_t sqrt(1 - b2^t) / (sqrt(v_t) + eps)     if rho_t > 5
    p_t = p_{t-1} - lr m_t/(1 - b1^t)                                            otherwise

Sources: Dozat 2016, Algorithm 2; Liu et al. 2020 (arXiv:1908.03265), Algorithm 2;
`torch.optim.NAdam`, `torch.optim.RAdam`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from jaxprob.optim.arguments import (
    Schedule,
    as_scalar,
    check_betas,
    check_non_negative,
    is_zero,
    value_at,
)
from jaxprob.optim.arithmetic import (
    advance,
    bias_correction,
    decayed,
    ema,
    first_step,
    like,
    minus_log,
    objective_gradient,
    zeros_like,
)
from jaxprob.types import Array, ArrayLike, Params, summary

__all__ = ["NAdamState", "RAdamState", "nadam", "radam"]


class NAdamState(NamedTuple):
    """State of `nadam`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    mu_product: Array  # shape=(), the widest float enabled (torch: its default dtype)
    exp_avg: Params  # like params
    exp_avg_sq: Params  # like params

    def __repr__(self) -> str:
        return summary("NAdamState", **self._asdict())


class RAdamState(NamedTuple):
    """State of `radam`, in torch's names."""

    step: Array  # shape=(), dtype=int32
    exp_avg: Params  # like params
    exp_avg_sq: Params  # like params

    def __repr__(self) -> str:
        return summary("RAdamState", **self._asdict())


def nadam(
    lr: ArrayLike | Schedule = 2e-3,
    betas: tuple[ArrayLike | Schedule, ArrayLike | Schedule] = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 0.0,
    momentum_decay: ArrayLike = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.NAdam`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.nadam`: the momentum warms up, as in Dozat's paper. torch holds M_t in its default
    dtype, so float64 runs agree to the last digit only after `torch.set_default_dtype(float64)`.

    Args:
        lr: step size, or a schedule of it.
        betas: decay of the first and second moment, or schedules of them.
        eps: added to the denominator, outside the square root.
        weight_decay: coefficient of the L2 penalty.
        momentum_decay: speed at which mu_t rises from b1/2 to b1.
        decoupled_weight_decay: shrink the parameters as AdamW does.
        maximize: ascend instead of descend.

    Returns:
        A transformation whose updates are to be added to the parameters.

    Raises:
        ValueError: if a number is outside the range that torch accepts.
    """
    check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay)
    check_betas(betas)
    decouple = decoupled_weight_decay and not is_zero(weight_decay)

    def init(params: Params) -> NAdamState:
        return NAdamState(first_step(), as_scalar(1.0), zeros_like(params), zeros_like(params))

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, NAdamState]:
        rate, decay = value_at(lr, state.step), value_at(weight_decay, state.step)
        beta1, beta2 = (value_at(beta, state.step) for beta in betas)
        floor, speed = value_at(eps, state.step), value_at(momentum_decay, state.step)
        step = advance(state.step)

        def momentum(t):
            return beta1 * (1 - 0.5 * jnp.exp(-minus_log(0.96) * speed * as_scalar(t)))

        mu, mu_next = momentum(step), momentum(step + 1)
        mu_product = state.mu_product * mu
        gradient_weight = rate * (1 - mu) / (1 - mu_product)
        momentum_weight = rate * mu_next / (1 - mu_product * mu_next)
        correction = bias_correction(beta2, step)

        def leaf(g, m, v):
            m = ema(m, g, beta1)
            v = like(beta2, v) * v + like(1 - beta2, v) * (g * g)
            denominator = jnp.sqrt(v / like(correction, v)) + like(floor, v)
            look_ahead = like(momentum_weight, m) * (m / denominator)
            return -(like(gradient_weight, g) * (g / denominator) + look_ahead), m, v

        gradient = objective_gradient(updates, params, 0.0 if decouple else decay, maximize)
        states = [state.exp_avg, state.exp_avg_sq]
        updates, *states = decayed(leaf, gradient, states, params, rate * decay if decouple else 0)
        return updates, NAdamState(step, mu_product, *states)

    return optax.GradientTransformation(init, update)


def radam(
    lr: ArrayLike | Schedule = 1e-3,
    betas: tuple[ArrayLike | Schedule, ArrayLike | Schedule] = (0.9, 0.999),
    eps: ArrayLike = 1e-8,
    weight_decay: ArrayLike | Schedule = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """`torch.optim.RAdam`: as in the module's docstring, with g_t <- g_t + weight_decay p_{t-1}.

    Beside `optax.radam`: `eps` joins the root before the bias correction, not after it, and rho_t
    is computed without the cancellation that costs four digits of the step in float32.
    Arguments as in `nadam`.
    """
    check_non_negative(lr=lr, eps=eps, weight_decay=weight_decay)
    check_betas(betas)
    decouple = decoupled_weight_decay and not is_zero(weight_decay)

    def init(params: Params) -> RAdamState:
        return RAdamState(first_step(), zeros_like(params), zeros_like(params))

    def update(
        updates: Params, state: Any, params: Params | None = None
    ) -> tuple[Params, RAdamState]:
        rate, decay = value_at(lr, state.step), value_at(weight_decay, state.step)
        beta1, beta2 = (value_at(beta, state.step) for beta in betas)
        floor = value_at(eps, state.step)
        step = advance(state.step)
        rectify, rectifier = _rectification(beta2, step)
        correction = bias_correction(beta1, step)
        scale = jnp.sqrt(bias_correction(beta2, step)) * rectifier

        def leaf(g, m, v):
            m = ema(m, g, beta1)
            v = like(beta2, v) * v + like(1 - beta2, v) * (g * g)
            adaptive = jnp.where(rectify, like(scale, v) / (jnp.sqrt(v) + like(floor, v)), 1.0)
            return -like(rate, m) * (m / like(correction, m)) * adaptive, m, v

        gradient = objective_gradient(updates, params, 0.0 if decouple else decay, maximize)
        states = [state.exp_avg, state.exp_avg_sq]
        updates, *states = decayed(leaf, gradient, states, params, rate * decay if decouple else 0)
        return updates, RAdamState(step, *states)

    return optax.GradientTransformation(init, update)


def _rectification(beta2: float | Array, step: Array) -> tuple[Array, Array]:
    """Whether the variance of RAdam's step is tractable, and the factor r_t if it is.

    rho_t as it is usually written is a difference of two numbers near 2/(1 - b2) = 2000, of order
    t. With a = -log b2 and the Langevin function L(y) = coth(y) - 1/y it is the sum

        rho_t = L(a/2) + t (1 - L(a t/2)),

    since 2/(1 - b2) - 1 = coth(a/2) and 2 t b2^t / (1 - b2^t) = t (coth(a t/2) - 1).
    """
    t, half_rate = as_scalar(step), as_scalar(minus_log(beta2)) / 2
    rho_inf = as_scalar(2 / (1 - beta2) - 1)
    rho = _langevin(half_rate) + t * _one_minus_langevin(half_rate * t)
    rectify = rho > 5
    ratio = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    return rectify, jnp.sqrt(jnp.where(rectify, ratio, 1.0))


def _langevin(y: Array) -> Array:
    """coth(y) - 1/y as Lambert's continued fraction y/(3 + y^2/(5 + ...)): accurate for y <= 2."""
    tail = as_scalar(25.0)
    for odd in range(23, 1, -2):
        tail = odd + y * y / tail
    return y / tail


def _one_minus_langevin(y: Array) -> Array:
    """1 - coth(y) + 1/y for y > 0."""
    large = jnp.maximum(y, 1)
    return jnp.where(y > 1, 1 / large - 2 / jnp.expm1(2 * large), 1 - _langevin(y))
