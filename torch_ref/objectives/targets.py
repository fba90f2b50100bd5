"""Targets against the support of the model's distribution.

Twin of `jaxprob/objectives/targets.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["support_check"]


def support_check(
    predict: Callable[[Mapping[str, Tensor]], Any], name: str = "y"
) -> Callable[[str, Mapping[str, Tensor]], None]:
    """Returns a check that raises where `batch[name]` has no finite density and is observed."""

    def check(argument: str, batch: Mapping[str, Tensor]) -> None:
        distribution = predict(batch)
        inner = distribution
        while isinstance(inner, torch.distributions.Independent):
            inner = inner.base_dist
        y, mask = batch[name], batch.get(f"{name}_observed", batch.get("mask"))
        bad = ~inner.support.check(y)
        if not inner.support.is_discrete and inner.event_shape == ():
            inside = torch.where(bad, inner.mean, y)
            bad = bad | ~torch.isfinite(inner.log_prob(inside))  # at an end of the support
        if mask is not None and mask.shape == bad.shape:
            bad = bad & mask
        rows = bad.reshape(len(bad), -1).any(1).nonzero()
        if len(rows):
            raise ValueError(
                f'{argument}["{name}"]: row {int(rows[0])} lies outside of {inner.support}.'
            )

    return check
