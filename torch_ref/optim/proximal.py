"""Soft thresholding after a step of any optimiser.

Twin of `jaxprob/optim/proximal.py`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["proximal_l1_"]


@torch.no_grad()
def proximal_l1_(parameters: Sequence[Tensor], threshold: float) -> Sequence[Tensor]:
    """Moves every weight towards zero by `threshold`, in place, and stops there."""
    for weight in parameters:
        weight.copy_(torch.nn.functional.softshrink(weight, threshold))
    return parameters
