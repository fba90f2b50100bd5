"""Expectation maximisation: one loop for every model with an E-step and an M-step.

Twin of `jaxprob/objectives/em.py`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["EMFit", "fit_em", "total"]

ROUNDING = 4.0


class EMFit(NamedTuple):
    """Params after the last step, the bound before each step, and their number."""

    params: Any
    bounds: Tensor
    num_steps: int


@torch.no_grad()
def fit_em(
    e_step: Callable[[Any], tuple[Any, Tensor]],
    m_step: Callable[[Any, Any], Any],
    starts: Sequence[Any],
    num_steps: int,
    tolerance: float | None = None,
) -> EMFit:
    """Climbs from one start after the other; returns the climb that ends highest."""
    fits = []
    for params in starts:
        bounds: list[Tensor] = []
        while len(bounds) < num_steps:
            statistics, bound = e_step(params)
            params = m_step(statistics, params)
            if bounds and bounds[-1] - _slack(bounds[-1]) <= bound < bounds[-1]:
                bound = bounds[-1]  # it has fallen by rounding alone
            gain = bound - bounds[-1] if bounds else torch.inf
            bounds.append(bound)
            if tolerance is not None and gain <= tolerance * abs(bound):
                break
        rest = [torch.full_like(bounds[0], torch.nan)] * (num_steps - len(bounds))
        fits.append(EMFit(params, torch.stack(bounds + rest), len(bounds)))
    ends = [float(fit.bounds[fit.num_steps - 1]) for fit in fits]
    ranks = [end if math.isfinite(end) else -math.inf for end in ends]
    return fits[ranks.index(max(ranks))]


def total(terms: Tensor) -> Tensor:
    """Returns the sum of `terms` `[N]`, exactly rounded."""
    return torch.as_tensor(math.fsum(terms.tolist()), dtype=terms.dtype)


def _slack(bound: Tensor) -> Tensor:
    return ROUNDING * torch.finfo(bound.dtype).eps * bound.abs()
