"""Learning rates that differ from step to step: read from updates on one sequence of gradients."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["flax_updates", "random_gradients", "schedules_apart", "torch_updates"]

PROPORTIONAL = 1e-6
"""Updates of one direction differ by less than this after scaling."""

AT_LEAST, AT_MOST = 4, 12
"""Steps that are looked at."""


def schedules_apart(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple[Any, Callable], steps: int
) -> tuple[str, str] | None:
    """Whether the updates are equal up to a factor that changes from step to step.

    Both optimisers get the same random gradients, and stand at the start at each step, so that one
    step's difference is not carried into the next and another memory shows in the directions.
    """
    steps = min(max(steps, AT_LEAST), AT_MOST)
    gradients = random_gradients(twin, steps)
    updates = flax_updates(ours, optimizer[0], [ours.from_twin_gradients(g) for g in gradients])
    twin_updates, before, after = torch_updates(ours, twin, optimizer[1], gradients)
    factors = []
    for update, other in zip(updates, twin_updates, strict=True):
        size = float(np.vdot(other, other))
        if not size:
            if np.any(update):
                factors.append(np.inf)
                continue
            factors.append(1.0)
            continue
        factor = float(np.vdot(update, other) / size)
        if np.max(np.abs(update - factor * other)) > PROPORTIONAL * np.max(np.abs(other)):
            return None
        factors.append(factor)
    known = [factor for factor in factors if np.isfinite(factor)]
    if len(known) == len(factors) and np.ptp(known) <= PROPORTIONAL * max(np.abs(known)):
        if known[0] <= 0.0 or abs(known[0] - 1.0) <= PROPORTIONAL:
            return None
        words = f"Flax's updates are {known[0]:.6g} times PyTorch's at every step."
        return "learning rate", words
    lengths = [[float(np.linalg.norm(u)) for u in side] for side in (updates, twin_updates)]
    equal = [np.ptp(length) <= PROPORTIONAL * max(length) for length in lengths]
    if equal[0] != equal[1]:
        side = "Flax" if equal[0] else "PyTorch"
        return "clipping", f"{side}'s updates all have one length: it clips the gradient's norm."
    # the group holds the rate of the step before it or after it, as the user's code sets it
    for rates in (before, after):
        found = _named(factors, rates) if rates and any(rates) else None
        if found:
            return found
    return (
        "schedule",
        f"Flax's updates are PyTorch's times {_listed(factors)}, ... from step to step: the "
        "learning rate follows another schedule.",
    )


def _named(factors: list[float], rates: list[float]) -> tuple[str, str] | None:
    """Names the schedule by its factors, with PyTorch's rates as the measure."""
    own = [f * r if np.isfinite(f) else np.nan for f, r in zip(factors, rates, strict=True)]
    words = (
        f"Flax's learning rates are {_listed(own)}; PyTorch's are {_listed(rates)} (first steps)."
    )

    def close(a: list[float], b: list[float]) -> bool:
        return all(
            abs(x - y) <= 1e-6 * max(abs(y), 1e-30) or np.isnan(x) or np.isnan(y)
            for x, y in zip(a, b, strict=True)
        )

    if close(own[1:], rates[:-1]):
        return "schedule off by one step", f"Flax is one step behind. {words}"
    if close(own[:-1], rates[1:]):
        return "schedule off by one step", f"Flax is one step ahead. {words}"
    if np.ptp([rate for rate in own if np.isfinite(rate)]) <= 1e-6 * max(rates):
        return "schedule missing in Flax", words
    if close(rates, [rates[0]] * len(rates)):
        return "schedule missing in PyTorch", words
    return None


def _listed(rates: list[float]) -> str:
    return ", ".join(f"{rate:.4g}" for rate in rates[:6])


def random_gradients(twin: TorchSide, steps: int) -> list[dict[str, np.ndarray]]:
    """Gradients of the sizes that PyTorch's have at the start, by name of its parameters."""
    rng = np.random.default_rng(0)
    sizes = {n: (g.shape, np.std(g) or 1.0) for n, g in twin.gradients().items()}
    return [
        {name: rng.normal(0.0, size, shape) for name, (shape, size) in sizes.items()}
        for _ in range(steps)
    ]


def flax_updates(
    ours: FlaxSide, transformation: Any, gradients: list[dict[str, np.ndarray]]
) -> list[np.ndarray]:
    """Updates of all weights, the weights at the start at each step."""
    params = ours.variables["params"]
    names, treedef = list(ours.flat({"params": params})), jax.tree.structure(params)
    extended = optax.with_extra_args_support(transformation)
    step = jax.jit(lambda g, state: extended.update(g, state, params, value=jnp.asarray(1.0)))
    state, out = transformation.init(params), []
    for gradient in gradients:
        leaves = [jnp.asarray(gradient[name], ours.dtype) for name in names]
        given = jax.tree.unflatten(treedef, _in_tree_order(params, names, leaves, ours))
        update, state = step(given, state)
        flat = ours.flat({"params": update})
        out.append(np.concatenate([flat[name].ravel() for name in names]))
    return out


def _in_tree_order(params: Any, names: list[str], leaves: list[Any], ours: FlaxSide) -> list[Any]:
    """Leaves by name in the order of the tree."""
    numbers = {name: i for i, name in enumerate(names)}
    marked = jax.tree.unflatten(jax.tree.structure(params), range(len(jax.tree.leaves(params))))
    order = {int(mark): numbers[name] for name, mark in ours.flat({"params": marked}).items()}
    return [leaves[order[i]] for i in range(len(leaves))]


def torch_updates(
    ours: FlaxSide, twin: TorchSide, build: Callable, gradients: list[dict[str, np.ndarray]]
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """Updates of all weights, and the rates in the first group before and after each."""
    import torch

    twin.reset()
    optimizer = build(twin.module.parameters())
    start, out = ours.from_twin_state(twin), []
    before: list[float] = []
    after: list[float] = []
    groups = getattr(optimizer, "param_groups", None)
    named = dict(twin.module.named_parameters())
    names = list(ours.flat({"params": ours.variables["params"]}))
    for gradient in gradients:
        with torch.no_grad():
            for name, tensor in twin.module.state_dict().items():
                tensor.copy_(twin.start[name])
        for name, parameter in named.items():
            parameter.grad = torch.tensor(gradient[name]).to(parameter)
        before += [float(groups[0]["lr"])] if groups else []
        optimizer.step()
        after += [float(groups[0]["lr"])] if groups else []
        state = ours.from_twin_state(twin)
        out.append(np.concatenate([(state[n] - start[n]).ravel() for n in names]))
    twin.reset()
    return out, before, after
