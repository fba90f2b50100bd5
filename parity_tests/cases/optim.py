"""One training run of a small network by torch.optim, `jaxprob.optim` and stock optax.

All three start from the same weights and see the same minibatches: a 5-16-1 tanh network whose
biases are the last column of its weights, mean squared error, 8 of 256 points a step. A run is the
array of all parameters after every step, so that a row compares whole trajectories and not only
where they end.
"""

import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import torch
from torch.optim import lr_scheduler

from parity_tests.tolerances import OPTIM

BOTH = ("float64", "float32")
STEPS = {"float64": 1000, "float32": 300}
SHAPES = {"hidden": (16, 6), "output": (1, 17)}


@dataclass(frozen=True)
class Row:
    """One optimiser, three times."""

    name: str
    ours: optax.GradientTransformation
    torch: Callable[[list], torch.optim.Optimizer]
    stock: optax.GradientTransformation | None = None  # what one would write without jaxprob
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None
    clip: tuple[float, float] | None = None  # max_norm and norm_type of clip_grad_norm_
    sign: float = 1.0  # of the loss; -1 for rows that ascend
    dtypes: tuple[str, ...] = ("float64",)


def in_dtypes(rows: dict[str, Row]) -> list:
    """Names with dtypes, as pytest's parameters.

    Quick are the first settings of each optimiser or schedule, in float64; the others are among the
    longer proofs.
    """
    first = {name.split()[0]: name for name in reversed(rows)}.values()
    return [
        pytest.param(
            name,
            dtype,
            marks=[] if dtype == "float64" and name in first else [pytest.mark.slow],
        )
        for name, row in rows.items()
        for dtype in row.dtypes
    ]


@functools.cache
def _data(dtype: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Initial weights, inputs [T, 8, 5] and targets [T, 8, 1]."""
    rng = np.random.default_rng(20240817)
    params = {k: 0.5 * rng.standard_normal(shape) for k, shape in SHAPES.items()}
    x = rng.standard_normal((256, 5))
    y = np.sin(x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3] + 0.1 * rng.standard_normal((256, 1))
    rows = rng.integers(0, 256, (STEPS["float64"], 8))[: STEPS[dtype]]
    cast = functools.partial(np.asarray, dtype=dtype)
    return {k: cast(v) for k, v in params.items()}, cast(x[rows]), cast(y[rows])


def run_jax(tx: optax.GradientTransformation, dtype: str, sign: float = 1.0) -> np.ndarray:
    """All parameters after each step, `[T, P]`, from one compiled scan.

    The float32 tier runs with float64 disabled, as a user's program does: schedules and bias
    corrections are then float32 too.
    """
    tx = optax.with_extra_args_support(tx)

    def loss(params, x, y):
        hidden, output = params["hidden"], params["output"]
        features = jnp.tanh(x @ hidden[:, :-1].T + hidden[:, -1])
        return sign * jnp.mean((features @ output[:, :-1].T + output[:, -1] - y) ** 2)

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        updates, state = tx.update(grads, state, params, value=value)
        params = optax.apply_updates(params, updates)
        return (params, state), jnp.concatenate([params[k].ravel() for k in SHAPES])

    @jax.jit
    def train(params, x, y):
        return jax.lax.scan(step, (params, tx.init(params)), (x, y))[1]

    with jax.enable_x64(dtype == "float64"):
        return np.asarray(train(*_data(dtype)))


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Sets torch's default dtype for a while: NAdam keeps a scalar of its state in it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def run_torch(row: Row, dtype: str, torch_default: torch.dtype | None = None) -> np.ndarray:
    """The same run by torch.optim, eagerly."""
    params, xs, ys = _data(dtype)
    hidden, output = leaves = [torch.tensor(params[k], requires_grad=True) for k in SHAPES]
    trajectory = []
    with default_dtype(torch_default or getattr(torch, dtype)):
        optimizer = row.torch(leaves)
        scheduler = row.scheduler(optimizer) if row.scheduler else None
        for x, y in zip(torch.tensor(xs), torch.tensor(ys), strict=True):
            optimizer.zero_grad()
            features = torch.tanh(x @ hidden[:, :-1].T + hidden[:, -1])
            loss = row.sign * ((features @ output[:, :-1].T + output[:, -1] - y) ** 2).mean()
            loss.backward()
            if row.clip:
                torch.nn.utils.clip_grad_norm_(leaves, *row.clip)
            optimizer.step()
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(loss.item())
            elif scheduler:
                scheduler.step()
            trajectory.append(torch.cat([leaf.detach().ravel() for leaf in leaves]))
    return torch.stack(trajectory).numpy()


@functools.cache
def trajectories(row: Row, dtype: str) -> np.ndarray:
    """Torch's run of a row; several tests compare with it."""
    return run_torch(row, dtype)


def drift(row: Row, tx: optax.GradientTransformation, dtype: str) -> float:
    """Largest difference from torch's run over all parameters and steps (parameters are near 1)."""
    return float(np.abs(run_jax(tx, dtype, row.sign) - trajectories(row, dtype)).max())


def require_parity(row: Row, tx: optax.GradientTransformation, dtype: str) -> float:
    """The check of every row.

    Raises:
        AssertionError: if the run differs from torch's by more than the tolerance.
    """
    error, tolerance = drift(row, tx, dtype), OPTIM[dtype]
    assert error <= tolerance, f"{row.name}, {dtype}: differs by {error:.1e} > {tolerance:.0e}"
    return error


def record(record_property: Callable, row: str, quantity: str, dtype: str, error: float) -> None:
    """Hands an error to the closing table."""
    entry = {"row": f"optim/{row}", "quantity": quantity, "dtype": dtype, "error": error}
    record_property("parity_row", json.dumps(entry | {"tolerance": OPTIM[dtype]}))


def check_stock(row: Row, record_property: Callable) -> None:
    """The stock call drifts by at least its floor, or agrees if it has none."""
    floor = OPTIM["stock"][row.name]
    error = drift(row, row.stock, "float64")
    record_property("stock_drift", f"{row.name}, float64: {error:.1e}")
    assert error <= OPTIM["float64"] if floor is None else error > floor
    if floor := OPTIM["stock float32"].get(row.name):
        error = drift(row, row.stock, "float32")
        record_property("stock_drift", f"{row.name}, float32: {error:.1e}")
        assert error > floor
