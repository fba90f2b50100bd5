"""The learning rates of `torch.optim.lr_scheduler` as functions of the step.

With eta_t the rate of update number t = 0, 1, ...: a torch loop that calls `optimizer.step()` and
then `scheduler.step()` uses eta_0 first, and so does an optax schedule.

    step             eta_t = lr gamma^floor(t / step_size)
    multi-step       eta_t = lr gamma^#{m in milestones: m <= t}
    exponential      eta_t = lr gamma^t
    constant         eta_t = lr factor  if t < total_iters else  lr
    linear           eta_t = lr (start + (end - start) min(t / total_iters, 1))
    polynomial       eta_t = lr (1 - min(t / total_iters, 1))^power
    cosine           eta_t = eta_min + (lr - eta_min) (1 + cos(pi t / T_max)) / 2
    warm restarts    the same with t counted from the last restart, and T_max <- T_0 T_mult^restarts
    one cycle        from lr/25 up to lr and down to lr/250000, momentum from .95 to .85 and back

torch multiplies the last rate by a ratio where these evaluate the closed form, so the two differ
by rounding (cosine after T_max: by some 1e-13 of lr).

A schedule takes an integer step (or an array of them, to plot) and returns the widest float that
is enabled, weakly typed: float64 accuracy where that is on, yet float32 parameters stay float32.
`optax.join_schedules` strings them together.

Sources: Loshchilov & Hutter 2017 (arXiv:1608.03983), equation 5; Smith & Topin 2018
(arXiv:1708.07120); `torch.optim.lr_scheduler`.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxprob.optim.arguments import Number, Schedule, as_float, check, check_non_negative
from jaxprob.optim.arithmetic import minus_log
from jaxprob.optim.plateau import ReduceLROnPlateauState, reduce_lr_on_plateau
from jaxprob.requirements import require_count, require_positive
from jaxprob.types import Array, ArrayLike

__all__ = [
    "ReduceLROnPlateauState",
    "constant_lr",
    "cosine_annealing_lr",
    "cosine_annealing_warm_restarts",
    "exponential_lr",
    "linear_lr",
    "multi_step_lr",
    "one_cycle_lr",
    "one_cycle_momentum",
    "polynomial_lr",
    "reduce_lr_on_plateau",
    "step_lr",
]


def constant_lr(lr: ArrayLike, factor: Number = 1 / 3, total_iters: int = 5) -> Schedule:
    """`ConstantLR`: `lr * factor` for `total_iters` updates, then `lr`."""
    require_count("constant_lr", total_iters=total_iters)
    base = _base(lr)
    check("factor", factor, lambda x: 0 <= x <= 1, "a number in [0, 1]")

    def schedule(step: ArrayLike) -> Array:
        return base * jnp.where(jnp.asarray(step) < total_iters, factor, 1.0)

    return schedule


def step_lr(lr: ArrayLike, step_size: int, gamma: Number = 0.1) -> Schedule:
    """`StepLR`: multiplied by `gamma` after every `step_size` updates."""
    require_count("step_lr", step_size=step_size)
    base = _base(lr)
    check_non_negative(gamma=gamma)

    def schedule(step: ArrayLike) -> Array:
        return base * _power(gamma, _real(jnp.asarray(step) // step_size))

    return schedule


def multi_step_lr(lr: ArrayLike, milestones: Sequence[int], gamma: Number = 0.1) -> Schedule:
    """`MultiStepLR`: multiplied by `gamma` at each milestone, twice at one that is listed twice."""
    base = _base(lr)
    if isinstance(milestones, str) or not hasattr(milestones, "__len__"):
        raise ValueError(f"milestones: expected update numbers, got {milestones!r}; try [30, 60]")
    milestones = tuple(milestones)
    check_non_negative(gamma=gamma)

    def schedule(step: ArrayLike) -> Array:
        step = jnp.asarray(step)
        passed = sum((_real(step >= milestone) for milestone in milestones), 0 * _real(step))
        return base * _power(gamma, passed)

    return schedule


def exponential_lr(lr: ArrayLike, gamma: Number) -> Schedule:
    """`ExponentialLR`: multiplied by `gamma` after every update."""
    base = _base(lr)
    check_non_negative(gamma=gamma)

    def schedule(step: ArrayLike) -> Array:
        return base * _power(gamma, _real(step))

    return schedule


def linear_lr(
    lr: ArrayLike, start_factor: Number = 1 / 3, end_factor: Number = 1.0, total_iters: int = 5
) -> Schedule:
    """`LinearLR`: from `lr * start_factor` to `lr * end_factor` in `total_iters` updates."""
    require_count("linear_lr", total_iters=total_iters)
    base = _base(lr)
    check("start_factor", start_factor, lambda x: 0 < x <= 1, "a number in (0, 1]")
    check("end_factor", end_factor, lambda x: 0 <= x <= 1, "a number in [0, 1]")

    def schedule(step: ArrayLike) -> Array:
        done = jnp.minimum(_real(step) / total_iters, 1.0)
        return base * (start_factor + (end_factor - start_factor) * done)

    return schedule


def polynomial_lr(lr: ArrayLike, total_iters: int = 5, power: Number = 1.0) -> Schedule:
    """`PolynomialLR`: to zero in `total_iters` updates, as the `power` of the time that is left."""
    require_count("polynomial_lr", total_iters=total_iters)
    check_non_negative(power=power)
    base = _base(lr)

    def schedule(step: ArrayLike) -> Array:
        left = 1.0 - jnp.minimum(_real(step) / total_iters, 1.0)
        return base * left ** float(power)

    return schedule


def cosine_annealing_lr(lr: ArrayLike, T_max: int, eta_min: ArrayLike = 0.0) -> Schedule:
    """`CosineAnnealingLR`: down to `eta_min` at `T_max`, back up to `lr` at `2 T_max`, and so on.

    `optax.cosine_decay_schedule` stays at the bottom instead.
    """
    require_count("cosine_annealing_lr", T_max=T_max)
    base, floor = _base(lr), as_float(eta_min)

    def schedule(step: ArrayLike) -> Array:
        return _cosine(base, floor, _real(jnp.asarray(step) % (2 * T_max)) / T_max)

    return schedule


def cosine_annealing_warm_restarts(
    lr: ArrayLike, T_0: int, T_mult: int = 1, eta_min: ArrayLike = 0.0
) -> Schedule:
    """`CosineAnnealingWarmRestarts`: cosine periods of T_0, T_0 T_mult, T_0 T_mult^2, ... updates.

    Each begins at `lr` and falls towards `eta_min`.
    """
    require_count("cosine_annealing_warm_restarts", T_0=T_0, T_mult=T_mult)
    base, floor = _base(lr), as_float(eta_min)
    restarts = [(T_0, T_0 * T_mult)]
    while T_mult > 1 and sum(restarts[-1]) < 2**31:  # the counters are int32
        restarts.append((sum(restarts[-1]), restarts[-1][1] * T_mult))

    def schedule(step: ArrayLike) -> Array:
        step = jnp.asarray(step)
        if T_mult == 1:
            return _cosine(base, floor, _real(step % T_0) / T_0)
        start, period = 0, float(T_0)
        for restart, next_period in restarts:
            start = jnp.where(step >= restart, restart, start)
            period = jnp.where(step >= restart, float(next_period), period)
        return _cosine(base, floor, _real(step - start) / period)

    return schedule


def one_cycle_lr(
    max_lr: ArrayLike,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    *,
    pct_start: Number = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: Number = 25.0,
    final_div_factor: Number = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """`OneCycleLR`: from `max_lr / div_factor` up to `max_lr`, then far below where it began.

    torch's default cycles the momentum too: give the optimiser `one_cycle_momentum` of the same
    steps, as `sgd(lr, momentum=...)` or `adam(lr, betas=(..., .999))`. The peak is at update
    `pct_start * total_steps - 1` and the end at `total_steps - 1`, both one earlier than in
    `optax.cosine_onecycle_schedule`.

    Args:
        max_lr: rate at the peak.
        total_steps: length of the cycle in updates; else `epochs * steps_per_epoch`.
        epochs: with `steps_per_epoch`, an alternative to `total_steps`.
        steps_per_epoch: see `epochs`.
        pct_start: fraction of the cycle that rises.
        anneal_strategy: "cos" or "linear".
        div_factor: `max_lr` over the first rate.
        final_div_factor: the first rate over the last.
        three_phase: come down to the first rate as slowly as it rose, then fall to the last.

    Returns:
        The schedule. It keeps the last rate after the cycle. (torch goes on for one update, whose
        rate may be negative, and refuses the next.)

    Raises:
        ValueError: if the length is not given, or an argument is out of range.
    """
    length = _length(total_steps, epochs, steps_per_epoch)
    require_positive("one_cycle_lr", div_factor=div_factor, final_div_factor=final_div_factor)
    peak = _base(max_lr, "max_lr")
    first = peak / div_factor
    levels = [first, peak, *([first] if three_phase else []), first / final_div_factor]
    return _one_cycle(levels, length, pct_start, anneal_strategy)


def one_cycle_momentum(
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    *,
    pct_start: Number = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    base_momentum: ArrayLike = 0.85,
    max_momentum: ArrayLike = 0.95,
    three_phase: bool = False,
) -> Schedule:
    """The momentum that `OneCycleLR` sets: `max_momentum`, `base_momentum` at the peak, and back.

    Arguments as in `one_cycle_lr`; after the cycle it keeps its last value.
    """
    length = _length(total_steps, epochs, steps_per_epoch)
    high, low = _base(max_momentum, "max_momentum"), _base(base_momentum, "base_momentum")
    levels = [high, low, high, *([high] if three_phase else [])]
    return _one_cycle(levels, length, pct_start, anneal_strategy)


def _one_cycle(levels: list, total_steps: int, pct_start: Number, anneal_strategy: str) -> Schedule:
    """Anneals from each level to the next over torch's phases."""
    check("pct_start", pct_start, lambda x: 0 <= x <= 1, "a fraction in [0, 1]")
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f'anneal_strategy: expected "cos" or "linear", got {anneal_strategy!r}')
    last = total_steps - 1.0
    rise = pct_start * total_steps - 1.0
    ends = [rise, 2 * rise, last] if len(levels) == 4 else [rise, last]
    starts = [0.0, *ends[:-1]]

    def anneal(start, end, fraction):
        if anneal_strategy == "cos":
            return _cosine(start, end, fraction)
        return (end - start) * fraction + start

    def schedule(step: ArrayLike) -> Array:
        t = _real(jnp.minimum(jnp.asarray(step), total_steps - 1))
        value = jnp.zeros(())
        for i in reversed(range(len(ends))):
            span = ends[i] - starts[i]  # torch divides by zero if the cycle begins at its peak
            fraction = (t - starts[i]) / span if span else 1.0
            phase = anneal(levels[i], levels[i + 1], fraction)
            value = phase if i == len(ends) - 1 else jnp.where(t <= ends[i], phase, value)
        return value

    return schedule


def _real(step: ArrayLike) -> Array:
    """An integer step as a weakly typed float, so that its functions promote nothing."""
    with jax.numpy_dtype_promotion("standard"):  # there is no public cast to a weak type
        return jnp.asarray(step) * 1.0


def _cosine(start: Any, end: Any, fraction: Any) -> Array:
    """Half a cosine from `start` at fraction 0 to `end` at fraction 1."""
    return end + (start - end) * (1.0 + jnp.cos(math.pi * fraction)) / 2.0


def _power(base: Number, exponent: Array) -> Array:
    """`base**exponent`, the logarithm in double precision: float32 rounds .999 itself too far."""
    if base == 0:
        return jnp.where(exponent > 0, 0.0, 1.0)
    return jnp.exp(-minus_log(float(base)) * exponent)


def _base(lr: ArrayLike, name: str = "lr") -> float | Array:
    if callable(lr):
        raise ValueError(f"{name}: expected a number, got {lr!r}; multiply two schedules yourself")
    check(name, lr, lambda x: x >= 0, "a number >= 0")
    return as_float(lr)


def _length(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    require_count(
        "one_cycle", total_steps=total_steps, epochs=epochs, steps_per_epoch=steps_per_epoch
    )
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ValueError(
            f"total_steps: expected a positive integer, got None with epochs={epochs} and "
            f"steps_per_epoch={steps_per_epoch}; give total_steps, or both of the others"
        )
    return epochs * steps_per_epoch
