"""Quantiles by bisection, for distributions that have a cdf but no inverse of it.

Twin of `jaxprob/distributions/quantiles.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["monotone_quantile"]


def monotone_quantile(
    q: Tensor,
    cdf: Callable[[Tensor], Tensor],
    survival_function: Callable[[Tensor], Tensor],
    lower: Tensor,
    upper: Tensor,
) -> Tensor:
    """Solves cdf(x) = q inside a bracket; no gradient.

    Args:
      q: Probabilities, of the shape of the result.
      cdf: x -> P(X <= x).
      survival_function: x -> P(X > x), used where q > 1/2 so that the upper tail keeps its digits.
      lower: A point at or below the root.
      upper: A point at or above the root.
    """
    with torch.no_grad():
        bounded = lower.isfinite() & upper.isfinite()  # the bracket of q = 0 or 1 is the answer
        low = torch.where(bounded, lower, torch.zeros_like(lower))
        high = torch.where(bounded, upper, torch.zeros_like(upper))
        for _ in range(200):
            middle = low + 0.5 * (high - low)
            if bool(((middle == low) | (middle == high)).all()):
                break
            too_low = torch.where(q <= 0.5, cdf(middle) < q, survival_function(middle) > 1.0 - q)
            low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
        return torch.where(bounded, low + 0.5 * (high - low), lower)
