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
      propose: (key, shape, *parameters) -> (proposal, whether it is accepted).
      key: A key.
      *parameters: Tensors of one shape.
    """
    shape = parameters[0].shape
    flat = [p.reshape(-1) for p in parameters]
    first_key, again_key = random.split(key).unbind(-2)
    found, good = propose(first_key, flat[0].shape, *flat)
    (place,) = torch.nonzero(~good, as_tuple=True)
    number = 0
    while place.numel() and number < LAST:
        number += 1
        keys = random.fold_in(random.fold_in(again_key, number), place)
        value, good = propose(keys, torch.Size(), *(p[place] for p in flat))
        found[place] = value
        place = place[~good]
    found[place] = torch.nan
    return found.reshape(shape)
