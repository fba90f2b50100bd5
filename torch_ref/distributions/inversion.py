"""Counts by inversion: the number of j >= 1 with w < P(X >= j), for uniform w.

Twin of `jaxprob/distributions/inversion.py`, which sums the probabilities instead.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_ref import random

__all__ = ["inverted_counts"]


def inverted_counts(
    key: Tensor, tail: Callable[[Tensor], Tensor], shape: torch.Size, dtype: torch.dtype
) -> Tensor:
    """Draws counts.

    Args:
      key: A key.
      tail: j -> P(X >= j) in float64, of the given shape.
      shape: Shape of the draws.
      dtype: Their type.
    """
    coarse, fine = random.split(key).unbind(-2)
    w = random.uniform(coarse, shape, dtype)
    w = (w + random.uniform(fine, shape, dtype) * torch.finfo(dtype).eps).double()
    count, j = torch.zeros(shape, dtype=dtype), torch.ones((), dtype=torch.float64)
    while True:
        above = w < tail(j)
        if not above.any():
            return count
        count, j = count + above, j + 1.0
