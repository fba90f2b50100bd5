"""`jaxprob.optim.schedules` against torch.optim.lr_scheduler: rates, and whole trajectories."""

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch
from torch.optim import lr_scheduler

from jaxprob import optim
from jaxprob.optim import schedules
from parity_tests.cases.optim import BOTH, Row, check_stock, in_dtypes, record, require_parity
from parity_tests.tolerances import OPTIM


def _scheduled(name: str, schedule: Any, scheduler: Callable, stock: Any = None) -> Row:
    """A row of SGD with momentum and a varying rate."""
    return Row(
        name,
        optim.sgd(schedule, momentum=0.9),
        lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
        None if stock is None else optax.sgd(stock, momentum=0.9),
        scheduler=scheduler,
        # The rates are compared in float32 too, below; a single row shows what that makes of a run.
        dtypes=BOTH if name == "exponential_lr" else ("float64",),
    )


_ONE_CYCLE_RATE = schedules.one_cycle_lr(2e-2, 1000)
_ONE_CYCLE_MOMENTUM = schedules.one_cycle_momentum(1000)

SCHEDULED = [
    _scheduled(
        "constant_lr",
        schedules.constant_lr(1e-2, 0.5, 20),
        lambda o: lr_scheduler.ConstantLR(o, 0.5, 20),
        optax.piecewise_constant_schedule(5e-3, {20: 2.0}),
    ),
    _scheduled(
        "step_lr",
        schedules.step_lr(1e-2, 50, 0.7),
        lambda o: lr_scheduler.StepLR(o, 50, 0.7),
        optax.exponential_decay(1e-2, 50, 0.7, staircase=True),
    ),
    _scheduled(
        "multi_step_lr",
        schedules.multi_step_lr(1e-2, [30, 200, 200, 600], 0.5),
        lambda o: lr_scheduler.MultiStepLR(o, [30, 200, 200, 600], 0.5),
        optax.piecewise_constant_schedule(1e-2, {30: 0.5, 200: 0.25, 600: 0.5}),
    ),
    _scheduled(
        "exponential_lr",
        schedules.exponential_lr(1e-2, 0.998),
        lambda o: lr_scheduler.ExponentialLR(o, 0.998),
        optax.exponential_decay(1e-2, 1, 0.998),
    ),
    _scheduled(
        "linear_lr",
        schedules.linear_lr(1e-2, 0.1, 0.9, 300),
        lambda o: lr_scheduler.LinearLR(o, 0.1, 0.9, 300),
        optax.linear_schedule(1e-3, 9e-3, 300),
    ),
    _scheduled(
        "polynomial_lr",
        schedules.polynomial_lr(1e-2, 700, 1.7),
        lambda o: lr_scheduler.PolynomialLR(o, 700, 1.7),
        optax.polynomial_schedule(1e-2, 0.0, 1.7, 700),
    ),
    _scheduled(
        "cosine_annealing_lr",
        schedules.cosine_annealing_lr(1e-2, 1000, 1e-4),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 1000, 1e-4),
        optax.cosine_decay_schedule(1e-2, 1000, 1e-2),
    ),
    _scheduled(
        "cosine_annealing_lr past T_max",
        schedules.cosine_annealing_lr(1e-2, 150, 1e-4),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 150, 1e-4),
        optax.cosine_decay_schedule(1e-2, 150, 1e-2),
    ),
    _scheduled(
        "cosine_annealing_warm_restarts",
        schedules.cosine_annealing_warm_restarts(1e-2, 60, 2, 1e-4),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 60, 2, 1e-4),
        optax.join_schedules(
            [optax.cosine_decay_schedule(1e-2, 60 * 2**k, 1e-2) for k in range(5)],
            [60, 180, 420, 900],
        ),
    ),
    Row(
        "one_cycle sgd",
        optim.sgd(_ONE_CYCLE_RATE, momentum=_ONE_CYCLE_MOMENTUM),
        lambda p: torch.optim.SGD(p, 1e-2, momentum=0.9),
        optax.sgd(optax.cosine_onecycle_schedule(1000, 2e-2), momentum=0.95),
        scheduler=lambda o: lr_scheduler.OneCycleLR(o, 2e-2, total_steps=1000),
    ),
    Row(
        "one_cycle adam",
        optim.adam(_ONE_CYCLE_RATE, betas=(_ONE_CYCLE_MOMENTUM, 0.999)),
        lambda p: torch.optim.Adam(p, 1e-2),
        optax.adam(optax.cosine_onecycle_schedule(1000, 2e-2), b1=0.95),
        scheduler=lambda o: lr_scheduler.OneCycleLR(o, 2e-2, total_steps=1000),
        dtypes=BOTH,
    ),
    Row(
        "one_cycle linear three_phase",
        optim.sgd(
            schedules.one_cycle_lr(
                5e-2, epochs=10, steps_per_epoch=100, anneal_strategy="linear", three_phase=True
            ),
            momentum=0.5,
        ),
        lambda p: torch.optim.SGD(p, 1e-2, momentum=0.5),
        scheduler=lambda o: lr_scheduler.OneCycleLR(
            o,
            5e-2,
            epochs=10,
            steps_per_epoch=100,
            anneal_strategy="linear",
            three_phase=True,
            cycle_momentum=False,
        ),
    ),
    Row(
        "reduce_lr_on_plateau",
        optax.chain(optim.adam(1e-2), schedules.reduce_lr_on_plateau(1e-2, factor=0.8, cooldown=5)),
        lambda p: torch.optim.Adam(p, 1e-2),
        optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau(0.8, cooldown=5, rtol=1e-4)),
        scheduler=lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.8, cooldown=5),
        dtypes=BOTH,
    ),
    Row(
        "reduce_lr_on_plateau max abs",
        optax.chain(
            optim.adamw(1e-2, maximize=True),
            schedules.reduce_lr_on_plateau(
                1e-2,
                "max",
                factor=0.7,
                patience=3,
                threshold=1e-2,
                threshold_mode="abs",
                min_lr=2e-3,
            ),
        ),
        lambda p: torch.optim.AdamW(p, 1e-2, maximize=True),
        scheduler=lambda o: lr_scheduler.ReduceLROnPlateau(
            o, "max", factor=0.7, patience=3, threshold=1e-2, threshold_mode="abs", min_lr=2e-3
        ),
        sign=-1.0,
    ),
]

ROWS = {row.name: row for row in SCHEDULED}

# Rates alone are cheap, so the odd corners are here: (name, ours, torch's, steps).
S, T = schedules, lr_scheduler
RATES = [
    ("constant", S.constant_lr(0.3), lambda o: T.ConstantLR(o), 12),
    ("step", S.step_lr(0.3, 7), lambda o: T.StepLR(o, 7), 100),
    ("multi_step at 0", S.multi_step_lr(0.3, [0, 5, 5]), lambda o: T.MultiStepLR(o, [0, 5, 5]), 9),
    ("multi_step none", S.multi_step_lr(0.3, []), lambda o: T.MultiStepLR(o, []), 5),
    ("exponential", S.exponential_lr(0.3, 0.99), lambda o: T.ExponentialLR(o, 0.99), 2000),
    ("exponential up", S.exponential_lr(0.3, 1.01), lambda o: T.ExponentialLR(o, 1.01), 300),
    ("exponential 0", S.exponential_lr(0.3, 0.0), lambda o: T.ExponentialLR(o, 0.0), 4),
    ("linear", S.linear_lr(0.3), lambda o: T.LinearLR(o), 12),
    ("linear to 0", S.linear_lr(0.3, 1.0, 0.0, 9), lambda o: T.LinearLR(o, 1.0, 0.0, 9), 12),
    ("polynomial", S.polynomial_lr(0.3), lambda o: T.PolynomialLR(o), 12),
    ("polynomial .5", S.polynomial_lr(0.3, 40, 0.5), lambda o: T.PolynomialLR(o, 40, 0.5), 60),
    ("cosine", S.cosine_annealing_lr(0.3, 7), lambda o: T.CosineAnnealingLR(o, 7), 1000),
    ("cosine T=1", S.cosine_annealing_lr(0.3, 1, 0.1), lambda o: T.CosineAnnealingLR(o, 1, 0.1), 9),
    (
        "restarts",
        S.cosine_annealing_warm_restarts(0.3, 10),
        lambda o: T.CosineAnnealingWarmRestarts(o, 10),
        100,
    ),
    (
        "restarts x3",
        S.cosine_annealing_warm_restarts(0.3, 2, 3, 0.01),
        lambda o: T.CosineAnnealingWarmRestarts(o, 2, 3, 0.01),
        5000,
    ),
    *(
        (
            f"one_cycle {strategy} {pct} {phases}",
            S.one_cycle_lr(
                0.3, 97, pct_start=pct, anneal_strategy=strategy, three_phase=phases == 3
            ),
            lambda o, strategy=strategy, pct=pct, phases=phases: T.OneCycleLR(
                o, 0.3, 97, pct_start=pct, anneal_strategy=strategy, three_phase=phases == 3
            ),
            96,  # the last of 97 updates
        )
        for strategy, pct, phases in itertools.product(["cos", "linear"], [0.0, 0.25, 0.4], [2, 3])
        if not (phases == 3 and pct == 0.0)  # torch's phases then run backwards
    ),
]


def _rates(scheduler: Callable, steps: int, key: str = "lr") -> np.ndarray:
    """What torch's scheduler sets for updates 0 to `steps`."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3, momentum=0.5)
    scheduler, rates = scheduler(optimizer), []
    for step in range(steps + 1):
        rates.append(optimizer.param_groups[0][key])
        optimizer.step()
        if step < steps:
            scheduler.step()
    return np.asarray(rates, np.float64)


@pytest.mark.parametrize(("name", "dtype"), in_dtypes(ROWS))
def test_follows_torch(name, dtype, record_property):
    error = require_parity(ROWS[name], ROWS[name].ours, dtype)
    record(record_property, name, "trajectory", dtype, error)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.stock])
def test_stock_optax_is_where_we_left_it(name, record_property):
    check_stock(ROWS[name], record_property)


@pytest.mark.parametrize(
    ("ours", "scheduler", "steps"), [case[1:] for case in RATES], ids=[case[0] for case in RATES]
)
def test_rates_are_torchs(ours, scheduler, steps, request, record_property):
    reference = _rates(scheduler, steps)
    for dtype, tolerance in OPTIM["schedule"].items():
        with jax.enable_x64(dtype == "float64"):
            rates = jax.jit(ours)(np.arange(steps + 1, dtype=np.int32))
            single = ours(jnp.int32(steps // 2))
        assert rates.dtype == single.dtype == dtype
        scale = np.abs(reference).max()
        error = float(np.abs(np.asarray(rates, np.float64) - reference).max() / scale)
        entry = {"row": f"optim/{request.node.callspec.id}", "quantity": "rate", "dtype": dtype}
        record_property("parity_row", json.dumps(entry | {"error": error, "tolerance": tolerance}))
        assert error <= tolerance
        assert abs(float(single) - reference[steps // 2]) <= scale * tolerance


@pytest.mark.parametrize("phases", [2, 3])
def test_one_cycle_momentum_is_torchs(phases):
    ours = schedules.one_cycle_momentum(97, three_phase=phases == 3)(np.arange(97))
    theirs = _rates(lambda o: T.OneCycleLR(o, 0.3, 97, three_phase=phases == 3), 96, "momentum")
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=OPTIM["schedule"]["float64"])


def test_no_schedule_is_negative_or_infinite_at_any_step():
    for name, schedule, _, steps in RATES:
        rates = np.asarray(schedule(np.array([0, 1, steps, steps + 1, 10**6, 2**31 - 1])))
        assert (rates >= 0).all(), name
        assert np.isfinite(rates).all() or name == "exponential up", name


def test_schedules_do_not_promote_float32_parameters():
    for _, schedule, _, steps in RATES:
        rate = jax.jit(schedule)(jnp.int32(steps // 2))
        assert rate.dtype == jnp.float64
        assert (rate * jnp.ones(2, jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize("stock", ["schedule", "optimizer"])
def test_ours_and_optax_mix_without_losing_digits(stock):
    row = ROWS["exponential_lr"]
    if stock == "schedule":  # our optimisers hand the step over as int64
        tx = optim.sgd(optax.exponential_decay(1e-2, 1, 0.998), momentum=0.9)
    else:
        tx = optax.sgd(schedules.exponential_lr(1e-2, 0.998), momentum=0.9)
    require_parity(row, tx, "float64")


@pytest.mark.parametrize("shift", [-1, 1])
def test_schedule_out_of_step_is_caught(shift):
    schedule = schedules.cosine_annealing_lr(1e-2, 1000, 1e-4)
    late = optim.sgd(lambda step: schedule(jnp.maximum(step + shift, 0)), momentum=0.9)
    with pytest.raises(AssertionError, match=r"differs by \d"):
        require_parity(ROWS["cosine_annealing_lr"], late, "float64")


@pytest.mark.parametrize(
    "options",
    [
        dict(patience=0),
        dict(patience=2, cooldown=3, threshold=0.02),
        dict(patience=1, threshold=0.3, threshold_mode="abs", min_lr=1e-3),
        dict(mode="max", patience=2, threshold=0.05),
        dict(mode="max", patience=0, threshold_mode="abs", cooldown=1, eps=1e-2),
    ],
)
@pytest.mark.parametrize("accumulation_size", [1, 4])
def test_plateau_is_torchs(options, accumulation_size):
    """Every decision, on noisy values that include a NaN, an infinity and exact ties."""
    rng = np.random.default_rng(3)
    epochs = np.round(2.0 + np.exp(-np.arange(60) / 10) + 0.1 * rng.standard_normal(60), 2)
    epochs[[17, 30]] = np.nan, np.inf
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.3)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, **options)
    tx = schedules.reduce_lr_on_plateau(
        0.3, factor=0.5, accumulation_size=accumulation_size, **options
    )

    @jax.jit
    def update(state, value):
        return tx.update(jnp.ones(()), state, value=value)

    state = tx.init(jnp.ones(()))
    for value in epochs:
        for _ in range(accumulation_size):
            scale, state = update(state, value)
            # Judged after the step: the scale is that of the rate before this value.
            assert scale * 0.3 == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-15)
        optimizer.step()
        scheduler.step(value)
        assert state.lr == optimizer.param_groups[0]["lr"]
        assert state.num_bad_epochs == scheduler.num_bad_epochs
        assert state.cooldown_counter == scheduler.cooldown_counter
        assert state.last_epoch == scheduler.last_epoch
    assert optimizer.param_groups[0]["lr"] < 0.3


def test_plateau_wants_its_value():
    tx = optax.chain(optim.sgd(0.1), schedules.reduce_lr_on_plateau(0.1))
    state = tx.init(jnp.ones(2))
    with pytest.raises(ValueError, match="value: .*value=loss"):
        tx.update(jnp.ones(2), state)
    assert tx.update(jnp.ones(2), state, value=None)[1][1].last_epoch == 0


INVALID: list[tuple[Callable[[], Any], Callable[[Any], Any] | None, str]] = [
    (lambda: S.constant_lr(0.1, 1.5), lambda o: T.ConstantLR(o, 1.5), "factor"),
    (lambda: S.linear_lr(0.1, 0.0), lambda o: T.LinearLR(o, 0.0), "start_factor"),
    (lambda: S.linear_lr(0.1, 1.0, 2.0), lambda o: T.LinearLR(o, 1.0, 2.0), "end_factor"),
    (
        lambda: S.cosine_annealing_warm_restarts(0.1, 0),
        lambda o: T.CosineAnnealingWarmRestarts(o, 0),
        "T_0",
    ),
    (
        lambda: S.cosine_annealing_warm_restarts(0.1, 5, 0),
        lambda o: T.CosineAnnealingWarmRestarts(o, 5, 0),
        "T_mult",
    ),
    (lambda: S.one_cycle_lr(0.1), lambda o: T.OneCycleLR(o, 0.1), "total_steps"),
    (lambda: S.one_cycle_lr(0.1, 0), lambda o: T.OneCycleLR(o, 0.1, 0), "total_steps"),
    (
        lambda: S.one_cycle_lr(0.1, 9, pct_start=1.5),
        lambda o: T.OneCycleLR(o, 0.1, 9, pct_start=1.5),
        "pct_start",
    ),
    (
        lambda: S.one_cycle_lr(0.1, 9, anneal_strategy="sin"),
        lambda o: T.OneCycleLR(o, 0.1, 9, anneal_strategy="sin"),
        "anneal_strategy",
    ),
    (
        lambda: S.reduce_lr_on_plateau(0.1, factor=1.0),
        lambda o: T.ReduceLROnPlateau(o, factor=1.0),
        "factor",
    ),
    (
        lambda: S.reduce_lr_on_plateau(0.1, "least"),
        lambda o: T.ReduceLROnPlateau(o, "least"),
        "mode",
    ),
    # torch fails later, with a division by zero, or not at all:
    (lambda: S.step_lr(0.1, 0), None, "step_size"),
    (lambda: S.polynomial_lr(0.1, 0), None, "total_iters"),
    (lambda: S.polynomial_lr(0.1, 9, -1.0), None, "power"),
    (lambda: S.one_cycle_lr(0.1, 9, div_factor=0.0), None, "div_factor"),
    (lambda: S.one_cycle_lr(0.1, 9, final_div_factor=-1.0), None, "final_div_factor"),
    (lambda: S.cosine_annealing_lr(0.1, 2.5), None, "T_max"),
    (lambda: S.step_lr(-0.1, 5), None, "lr"),
    (lambda: S.step_lr(S.constant_lr(0.1), 5), None, "lr"),
]


@pytest.mark.parametrize(("ours", "theirs", "name"), INVALID)
def test_refuses_what_torch_refuses(ours, theirs, name):
    with pytest.raises((ValueError, TypeError)) as refusal:
        ours()
    if isinstance(refusal.value, ValueError):  # else a run-time type checker was there first
        assert re.match(rf"({name}: expected|\w+: {name} must) .*got ", str(refusal.value))
    if theirs is not None:
        with pytest.raises(ValueError):  # noqa: PT011 - the wording is torch's
            theirs(torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1))
