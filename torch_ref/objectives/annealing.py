"""Weights that change with the step.

Twin of `jaxprob/objectives/annealing.py`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Schedule",
    "cyclical_annealing",
    "final_weight",
    "linear_annealing",
    "mark_schedules",
    "weight_at",
]

Schedule = Callable[[Tensor], Tensor]

LATE = range(2**23, 2**23 + 4096), range(2**24 - 4096, 2**24)


@dataclasses.dataclass(frozen=True, eq=False)
class _Ending:
    """A schedule and the weight at which it ends."""

    function: Schedule
    final: float

    def __call__(self, step: Any) -> Tensor:
        return self.function(step)


def linear_annealing(steps: int, start: float = 0.0, end: float = 1.0) -> Schedule:
    """Returns a weight that goes from `start` to `end` in `steps` steps and stays there."""

    def schedule(step: Tensor) -> Tensor:
        position = torch.as_tensor(step).to(torch.get_default_dtype())
        return torch.lerp(
            torch.full_like(position, start),
            torch.full_like(position, end),
            (position / steps).clamp(max=1.0),
        )

    return _Ending(schedule, end)


def cyclical_annealing(
    period: int, ramp: float = 0.5, start: float = 0.0, end: float = 1.0
) -> Schedule:
    """Returns a weight that rises in the share `ramp` of each cycle and rests at `end`."""
    rising = linear_annealing(1, start, end)

    def schedule(step: Tensor) -> Tensor:
        within = torch.as_tensor(step).remainder(period).to(torch.get_default_dtype())
        return rising(within / period / ramp)

    return _Ending(schedule, end)


def final_weight(weight: float | Schedule, owner: str) -> float | Tensor:
    """Returns a number, or the weight at which a schedule ends: its largest among late steps."""
    if not callable(weight):
        return weight
    if hasattr(weight, "final"):
        return weight.final  # type: ignore[attr-defined]
    tops = [
        torch.stack([torch.as_tensor(weight(torch.tensor(n))) for n in at]).max() for at in LATE
    ]
    if not torch.isclose(*tops, rtol=1e-3):
        raise ValueError(f"{owner}: the schedule never ends; set its attribute `final`.")
    return tops[1]


def weight_at(
    weight: float | Schedule, batch: Mapping[str, Tensor], owner: str, train: bool = True
) -> float | Tensor:
    """Returns a weight that is a number, or a schedule at the step that the batch carries.

    In prediction it is the weight at which the schedule ends.
    """
    if not train:
        return final_weight(weight, owner)
    if not callable(weight):
        return weight
    if "step" not in batch:
        raise ValueError(f'{owner}: the weight is a schedule and batch["step"] is missing.')
    return weight(batch["step"])


def mark_schedules(loss_fn: Callable, *weights: float | Schedule) -> None:
    """Sets `uses_step` on a loss if any of its weights is a schedule."""
    if any(callable(weight) for weight in weights):
        loss_fn.uses_step = True  # type: ignore[attr-defined]
