"""Modified Bessel functions as the von Mises distribution needs them.

Twin of `jaxprob/distributions/bessel.py`.
"""

import torch
from torch import Tensor

__all__ = ["log_i0e", "resultant"]


def log_i0e(k: Tensor) -> Tensor:
    """Returns log(I0(k) e^-k)."""
    return torch.special.i0e(k).log()


def resultant(k: Tensor) -> Tensor:
    """Returns I1(k) / I0(k), the mean of cos(x - loc)."""
    wide = k.double()  # one minus this is wanted
    return torch.special.i1e(wide) / torch.special.i0e(wide)
