"""PyTorch's first weights, drawn from a key of `torch_ref.random`.

The layers of `torch.nn` draw the same distributions from torch's global generator; these draw the
numbers of `jaxprob.nn`. The key of a parameter is `torch_ref.random.param_key`.

Twin of `jaxprob/nn/initializers.py`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.random.initializers import Initializer, normal

__all__ = ["Initializer", "fan_in_uniform", "param_dtype", "standard_normal", "xavier_uniform"]


def fan_in_uniform(fan_in: int) -> Initializer:
    """Makes the initialiser of U(+-1/sqrt(fan_in))."""
    return _symmetric(1 / math.sqrt(fan_in))


def xavier_uniform(out_features: int, in_features: int) -> Initializer:
    """Makes the initialiser of U(+-sqrt(6 / (out_features + in_features)))."""
    return _symmetric(math.sqrt(6 / (out_features + in_features)))


def standard_normal() -> Initializer:
    """Makes the initialiser of N(0, 1)."""
    return normal(1.0)


def param_dtype(x: Tensor) -> torch.dtype:
    """Returns float64 for float64 inputs, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _symmetric(bound: float) -> Initializer:
    def init(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        return random.uniform(key, shape, dtype, -bound, bound)

    return init
