"""Training runs of a row on both sides, from one key: 100 steps on shuffled minibatches.

`compare_steps` takes them with the row's own program, so that nothing more is compiled;
`compare_training` goes through `training.fit`, its loop and its smaller last batch included.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
import torch

import torch_ref.random as torch_random
from jaxprob import interop, training
from jaxprob.training.data import epoch_order, step_key
from parity_tests.engine import (
    COLLECTIONS,
    QUICK,
    SEED,
    ModelCase,
    both_sides,
    flat,
    program,
    relative_error,
    to_jax,
    to_torch,
    torch_dtype,
    trained,
    worst,
)
from torch_ref import training as torch_training

__all__ = ["compare_steps", "compare_training"]

RUN = SEED + 2
"""Seed of a run's order of rows and of its noise."""

order_of = jax.jit(epoch_order, static_argnums=2)
key_of = jax.jit(step_key)


def compare_steps(
    case: ModelCase,
    dtype: str,
    steps: int = 100,
    torch_optimizer: Callable | None = None,
    torch_seed: int = RUN,
) -> dict[str, float]:
    """Returns the errors of losses and of final parameters after steps of Adam.

    Args:
      case: The row.
      dtype: "float64" or "float32".
      steps: Number of steps.
      torch_optimizer: Another optimiser of the twin, for the tests that must catch it.
      torch_seed: Another seed of the twin, for the same.
    """
    with torch_dtype(dtype):
        params, module = both_sides(case, dtype)
        params, losses = _steps(case, dtype, params, steps)
        twins = (torch_optimizer or case.optimizers["adam"][1])(module.parameters())
        twin_losses = _twin_run(case, dtype, module, twins, steps, case.batch_size, torch_seed)
        errors = worst(flat(params), flat(interop.from_torch(module, params)))
    return {**errors, "loss per step": relative_error(losses, twin_losses)}


def _steps(case: ModelCase, dtype: str, params: Any, steps: int) -> tuple[Any, np.ndarray]:
    """Params and losses of our side."""
    init, update = _optimizer(case.optimizers["adam"][0])
    state = init(trained(params))
    key, per_epoch = jax.random.key(RUN), case.num_rows // case.batch_size
    order, losses = np.arange(0), []
    for step in range(steps):
        epoch, index = divmod(step, per_epoch)
        if index == 0:
            order = np.asarray(order_of(key, epoch, case.num_rows))
        chosen = order[index * case.batch_size : (index + 1) * case.batch_size]
        rows = {name: array[chosen] for name, array in case.data.items()}
        if getattr(case.jax_loss, "uses_step", False):
            rows["step"] = np.asarray(step, np.int32)
        found, gradient, collections = program(case)(
            params, to_jax(rows, dtype), key_of(key, epoch, index), False
        )
        losses.append(found["loss"])
        weights, state = update(gradient, state, trained(params))
        if collections is None:
            params = {**params, "params": weights} if COLLECTIONS in params else weights
        else:
            params = {"params": weights, COLLECTIONS: collections}
    return params, np.array(losses)


@functools.cache
def _optimizer(optimizer: optax.GradientTransformation) -> tuple[Callable, Callable]:
    """Start and step as a program each, the same for all rows with params of those shapes."""

    def update(gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return (
        jax.jit(optimizer.init, compiler_options=QUICK),
        jax.jit(update, compiler_options=QUICK),
    )


def compare_training(
    case: ModelCase,
    optimizer: str,
    dtype: str,
    steps: int = 100,
    batch_size: int = 16,
    torch_optimizer: Callable | None = None,
    torch_seed: int = RUN,
) -> dict[str, float]:
    """Trains by `fit` on both sides; returns the error of losses and of final parameters.

    Order of the rows and noise of the loss are drawn inside each framework. Where `batch_size` does
    not divide the rows, the last batch of an epoch is smaller than the others.

    Args:
      case: The row.
      optimizer: Name of one of its optimisers.
      dtype: "float64" or "float32".
      steps: Number of steps.
      batch_size: Rows of a minibatch.
      torch_optimizer: Another optimiser of the twin, for the tests that must catch it.
      torch_seed: Another seed of the twin, for the same.
    """
    params, history = _fitted(case, optimizer, dtype, steps, batch_size)
    with torch_dtype(dtype):
        like, module = both_sides(case, dtype)
        twins = (torch_optimizer or case.optimizers[optimizer][1])(module.parameters())
        losses = _twin_run(case, dtype, module, twins, steps, batch_size, torch_seed)
        errors = worst(flat(params), flat(interop.from_torch(module, like)))
    epoch_loss = _epoch_means(losses, case.num_rows, batch_size)
    return {**errors, "loss per epoch": relative_error(history["loss"], epoch_loss)}


@functools.cache
def _fitted(
    case: ModelCase, optimizer: str, dtype: str, steps: int, batch_size: int
) -> tuple[Any, dict[str, np.ndarray]]:
    """Our side of a run: one for the row and for all its mutations."""
    with torch_dtype(dtype):
        params, _ = both_sides(case, dtype)
    fitted = training.fit(
        case.jax_loss,
        params,
        to_jax(case.data, dtype),
        optimizer=case.optimizers[optimizer][0],
        steps=steps,
        batch_size=batch_size,
        key=jax.random.key(RUN),
        progress=False,
    )
    return jax.tree.map(np.asarray, fitted.params), fitted.history


def _twin_run(
    case: ModelCase,
    dtype: str,
    module: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    batch_size: int,
    seed: int,
) -> np.ndarray:
    """Trains the twin; returns the loss of each step."""
    losses = torch_training.fit(
        case.torch_loss(module),
        to_torch(case.data, dtype),
        optimizer=optimizer,
        steps=steps,
        batch_size=batch_size,
        key=torch_random.key(seed),
    )
    return np.array(losses)


def _epoch_means(losses: np.ndarray, rows: int, batch_size: int) -> np.ndarray:
    """Means over the rows of each epoch, as `fit` reports them."""
    sizes = [min(batch_size, rows - start) for start in range(0, rows, batch_size)]
    means = []
    for start in range(0, len(losses), len(sizes)):
        part = losses[start : start + len(sizes)]
        means.append(np.average(part, weights=sizes[: len(part)]))
    return np.array(means)
