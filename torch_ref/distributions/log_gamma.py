"""log Gamma(1 + w) near 0 and the curvature of log Gamma there, by torch's own log-gamma.

Twin of `jaxprob/distributions/log_gamma.py`, which sums a series; in float64 torch's keeps the
digits that the twins need.
"""

import torch
from torch import Tensor

__all__ = ["log_gamma_curvature", "log_gamma_one_plus"]


def log_gamma_one_plus(w: Tensor) -> Tensor:
    """Returns log Gamma(1 + w), through log Gamma(w) + log w where 1 + w would round w away."""
    small = (w < 0.1) & (w > 0.0)
    safe = torch.where(small, w, 0.1)
    return torch.where(small, torch.lgamma(safe) + safe.log(), torch.lgamma(1.0 + w))


def log_gamma_curvature(w: Tensor) -> Tensor:
    """Returns log Gamma(1 + 2 w) - 2 log Gamma(1 + w)."""
    return log_gamma_one_plus(2.0 * w) - 2.0 * log_gamma_one_plus(w)
