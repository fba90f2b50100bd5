"""Rejection sampling, where an attempt depends on the key, its number and the place alone.

Twin of `jaxprob/distributions/rejection.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_ref import random

__all__ = ["first_accepted"]

LAST = 1000  # attempts, after which there is something wrong


def first_accepted(propose: Callable, key: Tensor, *parameters: Tensor) -> Tensor:
    """Draws for each element until a proposal is accepted.

    Args:
      propose: (u, v, *parameters) -> (proposal, whether it is accepted), u and v in [0, 1).
      key: A key.
      *parameters: Tensors of one shape.
    """
    shape = parameters[0].shape
    flat = [p.reshape(-1) for p in parameters]
    dtype = flat[0].dtype
    first_key, again_key = random.split(key).unbind(-2)
    u, v = (random.uniform(k, flat[0].shape, dtype) for k in random.split(first_key).unbind(-2))
    found, good = propose(u, v, *flat)
    (place,) = torch.nonzero(~good, as_tuple=True)
    number = 0
    while place.numel() and number < LAST:
        number += 1
        u, v = _uniforms(random.fold_in(again_key, number), place, dtype)
        value, good = propose(u, v, *(p[place] for p in flat))
        found[place] = value
        place = place[~good]
    found[place] = torch.nan
    return found.reshape(shape)


def _uniforms(key: Tensor, place: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Two uniform numbers in [0, 1) for each place, of the bits of its key."""
    if dtype == torch.float64:
        words = (random.fold_in(k, place).unbind(-1) for k in random.split(key).unbind(-2))
        u, v = ((first << 20 | second >> 12).to(dtype) * 2.0**-52 for first, second in words)
        return u, v
    u, v = ((word >> 9).to(dtype) * 2.0**-23 for word in random.fold_in(key, place).unbind(-1))
    return u, v
