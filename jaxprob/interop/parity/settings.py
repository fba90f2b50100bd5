"""How two optimisers differ, from what they do with one sequence of random gradients.

Neither is opened: both get the same gradients, and stand at the start at each step. Updates that
differ by multiples of the weights are a decay; updates that agree on small gradients alone are a
clipping; else the settings of PyTorch's groups are changed until they do what Flax does.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.schedules import flax_updates, random_gradients, torch_updates
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["clipped", "decayed", "settings_apart"]

CLOSE = 1e-6
"""Updates agree up to this part of the largest."""

SMALL = 1e-5
"""Gradients are made this much smaller, so that nothing is clipped."""

STEPS = 6

USUAL: dict[str, tuple[float, ...]] = {
    "momentum": (0.0, 0.5, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
    "alpha": (0.9, 0.95, 0.98, 0.99, 0.999),
    "rho": (0.9, 0.95, 0.99),
    "eps": (0.0, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-15, 1e-16),
    "weight_decay": (0.0, 1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    "lr_decay": (0.0, 1e-3, 1e-2, 0.1),
    "momentum_decay": (0.0, 4e-3),
}
FIRST, SECOND = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99), (0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)
SWITCHES = ("nesterov", "amsgrad", "centered", "maximize", "decoupled_weight_decay")
NAMES = {"weight_decay": "weight decay", "alpha": "decay of the squares"}


def settings_apart(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple[Any, Callable]
) -> tuple[str, str] | None:
    """Returns (suspect, explanation), or None."""
    gradients = random_gradients(twin, STEPS)
    updates, others = _both(ours, twin, optimizer, gradients)
    if _agree(updates, others):
        return None  # up to what can be told here
    found = _decayed(ours, twin, updates, others)
    if found:
        return found
    for name, before, after, build in _changed(twin, optimizer[1]):
        if _agree(updates, torch_updates(ours, twin, build, gradients)[0]):
            words = f"Flax does what PyTorch does with {name}={after} in place of {before}."
            return NAMES.get(name, name), words
    return None


def decayed(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple[Any, Callable]
) -> tuple[str, str] | None:
    """Whether the two differ by multiples of the weights, which one of them decays."""
    gradients = random_gradients(twin, STEPS)
    return _decayed(ours, twin, *_both(ours, twin, optimizer, gradients))


def clipped(
    ours: FlaxSide, twin: TorchSide, optimizer: tuple[Any, Callable]
) -> tuple[str, str] | None:
    """Whether the two part on large gradients alone."""
    gradients = random_gradients(twin, STEPS)
    small = [{name: SMALL * g for name, g in gradient.items()} for gradient in gradients]
    if not _agree(*_both(ours, twin, optimizer, small)):
        return None
    if _agree(*_both(ours, twin, optimizer, gradients)):
        return None
    return "clipping", (
        "Both do the same with small gradients and part on large ones: one side clips them, or "
        "clips by another norm or bound."
    )


def _both(
    ours: FlaxSide,
    twin: TorchSide,
    optimizer: tuple[Any, Callable],
    gradients: list[dict[str, np.ndarray]],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    updates = flax_updates(ours, optimizer[0], [ours.from_twin_gradients(g) for g in gradients])
    return updates, torch_updates(ours, twin, optimizer[1], gradients)[0]


def _agree(updates: list[np.ndarray], others: list[np.ndarray]) -> bool:
    return all(
        np.max(np.abs(a - b)) <= CLOSE * (np.max(np.abs(b)) or np.max(np.abs(a)) or 1.0)
        for a, b in zip(updates, others, strict=True)
    )


def _decayed(
    ours: FlaxSide, twin: TorchSide, updates: list[np.ndarray], others: list[np.ndarray]
) -> tuple[str, str] | None:
    """Whether the updates of each tensor differ by a multiple of the tensor itself."""
    start = ours.from_twin_state(twin)
    names = list(ours.flat({"params": ours.variables["params"]}))
    sizes = [start[name].size for name in names]
    cuts = np.cumsum(sizes)[:-1]
    apart: dict[str, float] = {}
    for update, other in zip(updates, others, strict=True):
        largest = np.max(np.abs(other)) or 1.0
        for name, difference in zip(names, np.split(update - other, cuts), strict=True):
            weights = start[name].ravel()
            if np.max(np.abs(difference), initial=0.0) <= CLOSE * largest:
                continue
            square = float(np.vdot(weights, weights))
            factor = float(np.vdot(weights, difference) / square) if square else 0.0
            left = np.max(np.abs(difference - factor * weights))
            if weights.size < 2 or left > CLOSE * np.max(np.abs(difference)):
                return None
            apart[name] = factor
    if not apart:
        return None
    sides = {name: "Flax" if factor < 0 else "PyTorch" for name, factor in apart.items()}
    shown = ", ".join(f"{sides[name]} {name}" for name in list(apart)[:3])
    more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
    return "weight decay", (
        "The updates differ by multiples of the weights themselves. What decays more: "
        f"{shown}{more}."
    )


def _changed(twin: TorchSide, build: Callable) -> Iterator[tuple[str, Any, Any, Callable]]:
    """(setting, PyTorch's value, another, builder with it) for the settings of the first group."""
    group = build(twin.module.parameters()).param_groups[0]
    for name, before in group.items():
        for after in _values(name, before):
            yield name, before, after, _with(build, name, after)
    if group.get("momentum"):
        after = group["momentum"] if not group.get("dampening") else 0
        yield "dampening", group["dampening"], after, _with(build, "dampening", after)


def _values(name: str, before: Any) -> Iterator[Any]:
    if name == "betas":
        yield from ((b, before[1]) for b in FIRST if b != before[0])
        yield from ((before[0], b) for b in SECOND if b != before[1])
    elif name in SWITCHES and isinstance(before, bool):
        yield not before
    else:
        yield from (value for value in USUAL.get(name, ()) if value != before)


def _with(build: Callable, name: str, value: Any) -> Callable:
    def other(parameters: Any) -> Any:
        optimizer = build(parameters)
        for group in optimizer.param_groups:
            group[name] = value
        return optimizer

    return other
