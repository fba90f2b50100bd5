"""k optimiser steps on both sides, from the same weights."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from jaxprob.interop.parity.exact import exact_gradients
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.outputs import relative_error, rounding_of_zero
from jaxprob.interop.parity.report import Comparison
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["compare_steps", "jax_steps", "torch_steps"]

Curve = tuple[float, ...]


def compare_steps(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple[Any, Callable], steps: int, dtype: str
) -> tuple[list[Comparison], tuple[Curve, Curve]]:
    """Returns the errors of all weights and of the loss along the way, and both loss curves.

    A weight whose gradient is the rounding of a zero, first and last, is left out: it has no effect
    on the loss, and Adam makes steps of the rounding.
    """
    null = rounding_of_zero(ours.from_twin_gradients(twin.gradients()), dtype)
    variables, curve = jax_steps(ours, optimizer[0], steps)
    twin_curve = torch_steps(twin, optimizer[1], steps)
    found, wanted = ours.flat(variables), ours.from_twin_state(twin)
    null &= rounding_of_zero(ours.from_twin_gradients(twin.present_gradients()), dtype)
    twin.reset()
    comparisons = [
        Comparison("trajectory", name, relative_error(a, wanted[name]), a.shape)
        for name, a in found.items()
        if name not in null
    ]
    error = relative_error(np.array(curve), np.array(twin_curve))
    comparisons.append(Comparison("trajectory", "loss along the steps", error, (steps,)))
    return comparisons, (curve, twin_curve)


def jax_steps(ours: FlaxSide, transformation: Any, steps: int) -> tuple[Any, Curve]:
    """Returns variables after the steps and the loss before each."""

    @jax.jit
    def step(variables: Any, opt_state: Any) -> tuple[Any, Any, Any]:
        def of_params(params: Any) -> tuple[Any, Any]:
            return ours.loss_of({**variables, "params": params})

        params = variables["params"]
        (loss, stats), gradient = jax.value_and_grad(of_params, has_aux=True)(params)
        # plateau schedules look at the loss
        extended = optax.with_extra_args_support(transformation)
        updates, opt_state = extended.update(gradient, opt_state, params, value=loss)
        return (
            {**variables, **stats, "params": optax.apply_updates(params, updates)},
            opt_state,
            loss,
        )

    variables, opt_state = ours.variables, transformation.init(ours.variables["params"])
    losses = []
    for _ in range(steps):
        variables, opt_state, loss = step(variables, opt_state)
        losses.append(loss)
    return variables, tuple(float(loss) for loss in losses)


def torch_steps(twin: TorchSide, build: Callable, steps: int) -> Curve:
    """Trains the copy; returns the loss before each step. The caller resets it."""
    twin.reset()
    optimizer = build(twin.module.parameters())
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with exact_gradients():
            loss = twin.loss_value(twin())
            loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return tuple(losses)
