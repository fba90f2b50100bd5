"""From unbounded outputs of a layer to parameters.

Twin of `jaxprob/heads/links.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = [
    "LOG_CONCENTRATION_RANGE",
    "LOG_RATE_RANGE",
    "SCALE_FLOOR",
    "bounded",
    "concentration",
    "in_units",
    "positive",
    "rate",
    "raw_outputs",
    "softplus",
]

SCALE_FLOOR = 1e-4
LOG_CONCENTRATION_RANGE = (-10.0, 10.0)
LOG_RATE_RANGE = (-20.0, 20.0)


def softplus(x: Tensor) -> Tensor:
    """Returns log(1 + e^x) everywhere; F.softplus switches to x above 20 and loses 2e-9 there."""
    return torch.logaddexp(x, torch.zeros_like(x))


def positive(raw: Tensor) -> Tensor:
    """Returns softplus(raw) with a floor."""
    return softplus(raw) + SCALE_FLOOR


def bounded(raw: Tensor, bound: float) -> Tensor:
    """Returns bound tanh(raw / bound)."""
    return torch.tanh(raw / bound) * bound


def concentration(raw: Tensor) -> Tensor:
    """Returns e^raw, raw clamped."""
    return raw.clamp(*LOG_CONCENTRATION_RANGE).exp()


def rate(raw: Tensor) -> Tensor:
    """Returns e^raw, raw clamped."""
    return raw.clamp(*LOG_RATE_RANGE).exp()


def in_units(value: float | Sequence[float], like: Tensor) -> Tensor:
    """Returns a number, or one for each target, as a tensor."""
    return torch.as_tensor(value, dtype=like.dtype)


def raw_outputs(layer: nn.Linear, h: Tensor, number: int) -> tuple[Tensor, ...]:
    """Returns the layer's outputs in `number` equal parts."""
    return layer(h).chunk(number, dim=-1)
