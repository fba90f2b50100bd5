"""`jaxprob.optim` against torch.optim: whole trajectories, and what stock optax does instead."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.optim as O  # noqa: N812
from torch.optim import lr_scheduler

from jaxprob import optim
from jaxprob.optim import schedules
from parity_tests.cases.optim import (
    BOTH,
    Row,
    check_stock,
    in_dtypes,
    record,
    require_parity,
    run_jax,
    run_torch,
)
from parity_tests.tolerances import OPTIM

DESCENT = [
    Row("sgd", optim.sgd(1e-2), lambda p: O.SGD(p, 1e-2), optax.sgd(1e-2), dtypes=BOTH),
    Row(
        "sgd momentum",
        optim.sgd(1e-2, momentum=0.9),
        lambda p: O.SGD(p, 1e-2, momentum=0.9),
        optax.sgd(1e-2, momentum=0.9),
        dtypes=BOTH,
    ),
    Row(
        "sgd nesterov",
        optim.sgd(1e-2, momentum=0.9, nesterov=True),
        lambda p: O.SGD(p, 1e-2, momentum=0.9, nesterov=True),
        optax.sgd(1e-2, momentum=0.9, nesterov=True),
    ),
    Row(
        "sgd dampening",
        optim.sgd(1e-2, momentum=0.9, dampening=0.3),
        lambda p: O.SGD(p, 1e-2, momentum=0.9, dampening=0.3),
        optax.sgd(1e-2, momentum=0.9),
    ),
    Row(
        "sgd weight_decay",
        optim.sgd(1e-2, momentum=0.9, weight_decay=1e-2),
        lambda p: O.SGD(p, 1e-2, momentum=0.9, weight_decay=1e-2),
        optax.chain(optax.sgd(1e-2, momentum=0.9), optax.add_decayed_weights(-1e-4)),
    ),
    Row(
        "sgd maximize",
        optim.sgd(1e-2, momentum=0.9, weight_decay=1e-2, maximize=True),
        lambda p: O.SGD(p, 1e-2, momentum=0.9, weight_decay=1e-2, maximize=True),
        sign=-1.0,
    ),
    Row(
        "rprop",
        optim.rprop(1e-3),
        lambda p: O.Rprop(p, 1e-3),
        optax.rprop(1e-3),
        dtypes=BOTH,
    ),
    Row(
        "rprop etas",
        optim.rprop(1e-3, etas=(0.4, 1.1), step_sizes=(1e-5, 1e-2), maximize=True),
        lambda p: O.Rprop(p, 1e-3, etas=(0.4, 1.1), step_sizes=(1e-5, 1e-2), maximize=True),
        sign=-1.0,
    ),
]

MOMENTS = [
    Row("adam", optim.adam(1e-2), lambda p: O.Adam(p, 1e-2), optax.adam(1e-2), dtypes=BOTH),
    Row(
        "adam b2=.9999",
        optim.adam(1e-2, betas=(0.9, 0.9999)),
        lambda p: O.Adam(p, 1e-2, betas=(0.9, 0.9999)),
        optax.adam(1e-2, b2=0.9999),
        dtypes=BOTH,
    ),
    Row(
        "adam low betas",
        optim.adam(1e-3, betas=(0.0, 0.5), eps=1e-3),
        lambda p: O.Adam(p, 1e-3, betas=(0.0, 0.5), eps=1e-3),
        optax.adam(1e-3, b1=0.0, b2=0.5, eps=1e-3),
    ),
    Row(
        "adam L2",
        optim.adam(1e-2, weight_decay=1e-2),
        lambda p: O.Adam(p, 1e-2, weight_decay=1e-2),
        optax.adamw(1e-2, weight_decay=1e-2),
        dtypes=BOTH,
    ),
    Row(
        "adam amsgrad",
        optim.adam(1e-2, amsgrad=True),
        lambda p: O.Adam(p, 1e-2, amsgrad=True),
        optax.amsgrad(1e-2),
        dtypes=BOTH,
    ),
    Row(
        "adam maximize",
        optim.adam(1e-2, weight_decay=1e-2, maximize=True),
        lambda p: O.Adam(p, 1e-2, weight_decay=1e-2, maximize=True),
        sign=-1.0,
    ),
    Row(
        "adamw",
        optim.adamw(1e-2),
        lambda p: O.AdamW(p, 1e-2),
        optax.adamw(1e-2),
        dtypes=BOTH,
    ),
    Row(
        "adamw amsgrad",
        optim.adamw(1e-2, weight_decay=0.1, amsgrad=True),
        lambda p: O.AdamW(p, 1e-2, weight_decay=0.1, amsgrad=True),
        optax.chain(optax.scale_by_amsgrad(), optax.add_decayed_weights(0.1), optax.scale(-1e-2)),
    ),
    Row(
        "adamax",
        optim.adamax(1e-2),
        lambda p: O.Adamax(p, 1e-2),
        optax.adamax(1e-2),
        dtypes=BOTH,
    ),
    Row(
        "adamax L2",
        optim.adamax(1e-2, weight_decay=1e-2),
        lambda p: O.Adamax(p, 1e-2, weight_decay=1e-2),
        optax.adamaxw(1e-2, weight_decay=1e-2),
    ),
    Row(
        "nadam",
        optim.nadam(1e-2),
        lambda p: O.NAdam(p, 1e-2),
        optax.nadam(1e-2),
        dtypes=BOTH,
    ),
    Row(
        "nadam L2",
        optim.nadam(1e-2, weight_decay=1e-2, momentum_decay=1e-2),
        lambda p: O.NAdam(p, 1e-2, weight_decay=1e-2, momentum_decay=1e-2),
    ),
    Row(
        "nadam decoupled",
        optim.nadam(1e-2, weight_decay=1e-2, decoupled_weight_decay=True),
        lambda p: O.NAdam(p, 1e-2, weight_decay=1e-2, decoupled_weight_decay=True),
        optax.nadamw(1e-2, weight_decay=1e-2),
    ),
    Row(
        "radam",
        optim.radam(1e-2),
        lambda p: O.RAdam(p, 1e-2),
        optax.radam(1e-2),
        dtypes=BOTH,
    ),
    Row(
        "radam L2",
        optim.radam(1e-2, betas=(0.9, 0.5), weight_decay=1e-2),
        lambda p: O.RAdam(p, 1e-2, betas=(0.9, 0.5), weight_decay=1e-2),
    ),
    Row(
        "radam decoupled",
        optim.radam(1e-2, weight_decay=1e-2, decoupled_weight_decay=True),
        lambda p: O.RAdam(p, 1e-2, weight_decay=1e-2, decoupled_weight_decay=True),
    ),
]

ROOT_MEAN_SQUARE = [
    Row(
        "rmsprop",
        optim.rmsprop(1e-2),
        lambda p: O.RMSprop(p, 1e-2),
        optax.rmsprop(1e-2, decay=0.99),
        dtypes=BOTH,
    ),
    Row(
        "rmsprop centered",
        optim.rmsprop(1e-3, centered=True),
        lambda p: O.RMSprop(p, 1e-3, centered=True),
        optax.rmsprop(1e-3, decay=0.99, centered=True),
    ),
    Row(
        "rmsprop momentum",
        optim.rmsprop(1e-3, momentum=0.9, centered=True, weight_decay=1e-2),
        lambda p: O.RMSprop(p, 1e-3, momentum=0.9, centered=True, weight_decay=1e-2),
    ),
    Row(
        "rmsprop schedule",
        optim.rmsprop(schedules.step_lr(1e-3, 50, 0.7), momentum=0.9),
        lambda p: O.RMSprop(p, 1e-3, momentum=0.9),
        optax.rmsprop(
            lambda c: 1e-3 * 0.7 ** (c // 50),
            decay=0.99,
            momentum=0.9,
            eps_in_sqrt=False,
        ),
        scheduler=lambda o: lr_scheduler.StepLR(o, 50, 0.7),
    ),
    Row(
        "adagrad",
        optim.adagrad(1e-1),
        lambda p: O.Adagrad(p, 1e-1),
        optax.adagrad(1e-1),
        dtypes=BOTH,
    ),
    Row(
        "adagrad lr_decay",
        optim.adagrad(
            1e-1, lr_decay=1e-2, weight_decay=1e-2, initial_accumulator_value=0.1, eps=1e-3
        ),
        lambda p: O.Adagrad(
            p, 1e-1, lr_decay=1e-2, weight_decay=1e-2, initial_accumulator_value=0.1, eps=1e-3
        ),
    ),
    Row(
        "adadelta",
        optim.adadelta(),
        lambda p: O.Adadelta(p),
        optax.adadelta(1.0),
        dtypes=BOTH,
    ),
    Row(
        "adadelta L2",
        optim.adadelta(0.5, rho=0.95, weight_decay=1e-2),
        lambda p: O.Adadelta(p, 0.5, rho=0.95, weight_decay=1e-2),
        optax.adadelta(0.5, rho=0.95, eps=1e-6, weight_decay=1e-2),
    ),
]

CLIPPING = [
    Row(
        "clip sgd",
        optax.chain(optim.clip_grad_norm(0.05), optim.sgd(1e-1)),
        lambda p: O.SGD(p, 1e-1),
        optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(1e-1)),
        clip=(0.05, 2.0),
        dtypes=BOTH,
    ),
    Row(
        "clip adam L2",
        optax.chain(optim.clip_grad_norm(0.05), optim.adam(1e-2, weight_decay=1e-2)),
        lambda p: O.Adam(p, 1e-2, weight_decay=1e-2),
        optax.chain(
            optax.add_decayed_weights(1e-2), optax.clip_by_global_norm(0.05), optax.adam(1e-2)
        ),
        clip=(0.05, 2.0),
    ),
    Row(
        "clip max-norm",
        optax.chain(optim.clip_grad_norm(0.02, float("inf")), optim.sgd(1e-1)),
        lambda p: O.SGD(p, 1e-1),
        clip=(0.02, float("inf")),
    ),
    Row(
        "clip 1-norm",
        optax.chain(optim.clip_grad_norm(0.2, 1.0), optim.sgd(1e-1)),
        lambda p: O.SGD(p, 1e-1),
        clip=(0.2, 1.0),
    ),
]

ROWS = {row.name: row for row in [*DESCENT, *MOMENTS, *ROOT_MEAN_SQUARE, *CLIPPING]}

# A row, what goes wrong, and the optimiser that has it wrong.
MUTATIONS = [
    (
        "rmsprop",
        "eps inside the root",
        optax.rmsprop(1e-2, decay=0.99, eps=1e-8, eps_in_sqrt=True, initial_scale=0.0),
    ),
    ("adam", "eps inside the root", optax.adam(1e-2, eps=0.0, eps_root=1e-8)),
    ("adagrad", "eps inside the root", optax.adagrad(1e-1, 0.0, eps=1e-10)),
    ("adam L2", "decoupled decay", optim.adamw(1e-2, weight_decay=1e-2)),
    ("adamw", "L2 decay", optim.adam(1e-2, weight_decay=1e-2)),
    ("adamw", "another default", optim.adamw(1e-2, weight_decay=1e-4)),
    ("sgd maximize", "decay turned round", optim.sgd(-1e-2 * jnp.ones(()), 0.9, 0.0, 1e-2)),
    (
        "adam",
        "bias uncorrected",
        optax.chain(
            optax.scale_by_adam(b1=0.9, b2=0.999),
            optax.scale_by_schedule(lambda c: 1 - 0.9 ** (c + 1.0)),
            optax.scale(-1e-2),
        ),
    ),
    (
        "sgd dampening",
        "first gradient dampened",
        optax.chain(optax.scale(0.7), optax.trace(0.9), optax.scale(-1e-2)),
    ),
    (
        "clip sgd",
        "no 1e-6",
        optax.chain(optax.clip_by_global_norm(0.05), optim.sgd(1e-1)),
    ),
    (
        "clip adam L2",
        "decay before clipping",
        optax.chain(optax.add_decayed_weights(1e-2), optim.clip_grad_norm(0.05), optim.adam(1e-2)),
    ),
]


@pytest.mark.parametrize(("name", "dtype"), in_dtypes(ROWS))
def test_follows_torch(name, dtype, record_property):
    error = require_parity(ROWS[name], ROWS[name].ours, dtype)
    record(record_property, name, "trajectory", dtype, error)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.stock])
def test_stock_optax_is_where_we_left_it(name, record_property):
    check_stock(ROWS[name], record_property)


@pytest.mark.parametrize(("name", "what", "mutant"), MUTATIONS)
def test_mutation_is_caught(name, what, mutant):
    with pytest.raises(AssertionError, match=r"differs by \d"):
        require_parity(ROWS[name], mutant, "float64")


def test_naive_bias_correction_is_caught_in_float32():
    with pytest.raises(AssertionError, match=r"differs by \d"):
        require_parity(ROWS["adam b2=.9999"], optax.adam(1e-2, b2=0.9999), "float32")


def test_nadam_differs_only_by_the_dtype_of_its_product():
    row = ROWS["nadam"]
    torch_run = run_torch(row, "float64", torch_default=torch.float32)
    error = np.abs(run_jax(row.ours, "float64") - torch_run).max()
    low, high = OPTIM["nadam under a float32 default"]
    assert low < error < high
