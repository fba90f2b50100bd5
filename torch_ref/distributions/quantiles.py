"""Quantiles by bisection, for distributions that have a cdf but no inverse of it.

Twin of `jaxprob/distributions/quantiles.py`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["implicit_root", "monotone_quantile", "smallest_integer"]


def monotone_quantile(
    q: Tensor,
    cdf: Callable[[Tensor], Tensor],
    survival_function: Callable[[Tensor], Tensor],
    lower: Tensor,
    upper: Tensor,
    tail: Tensor | None = None,
    gaps: bool = False,
) -> Tensor:
    """Solves cdf(x) = q inside a bracket; no gradient (see `implicit_root`).

    Args:
      q: Probabilities, of the shape of the result.
      cdf: x -> P(X <= x).
      survival_function: x -> P(X > x), used where q > 1/2 so that the upper tail keeps its digits.
      lower: A point at or below the root; may be infinite.
      upper: A point at or above the root; may be infinite.
      tail: 1 - q where it is known to more digits.
      gaps: Whether the cdf may have flat stretches; the root is then the middle of the stretch.
    """
    tail = 1.0 - q if tail is None else tail
    with torch.no_grad():
        low_tail = q <= 0.5
        wanted = torch.where(low_tail, q, tail)

        def find(level: Tensor) -> Tensor:
            low, high = _finite(lower, low_tail, level, cdf, survival_function, upper)
            for _ in range(300):
                middle = low + 0.5 * (high - low)
                if bool(((middle == low) | (middle == high)).all()):
                    break
                too_low = torch.where(
                    low_tail, cdf(middle) < level, survival_function(middle) > level
                )
                low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
            return low + 0.5 * (high - low)

        if gaps:
            slack = 4 * torch.finfo(q.dtype).eps
            root = 0.5 * find(wanted * (1.0 - slack)) + 0.5 * find(wanted * (1.0 + slack))
        else:
            root = find(wanted)
        end = torch.where(low_tail, lower, upper)
        return torch.where((wanted > 0.0) & (lower < upper), root, end)


def _finite(lower, low_tail, level, cdf, survival_function, upper) -> tuple[Tensor, Tensor]:
    """A finite bracket inside [lower, upper], found by doubling away from 0."""
    known = level > 0.0
    low = torch.where(lower.isfinite(), lower, -torch.ones_like(level))
    high = torch.where(upper.isfinite(), upper, torch.ones_like(level))
    low, high = torch.minimum(low, high), torch.maximum(low, high)
    for _ in range(200):
        short_low = torch.where(low_tail, cdf(low) > level, survival_function(low) < level)
        short_high = torch.where(low_tail, cdf(high) < level, survival_function(high) > level)
        short_low = short_low & ~lower.isfinite() & known
        short_high = short_high & ~upper.isfinite() & known
        if not bool((short_low | short_high).any()):
            break
        low, high = (
            torch.where(short_low, 2.0 * low, low),
            torch.where(short_high, 2.0 * high, high),
        )
    return low, high


def implicit_root(root: Tensor, q: Tensor, tail: Tensor, distribution) -> Tensor:
    """Gives a root of cdf(x) = q its gradient, dx = (dq - dF) / p(x).

    Args:
      root: The root.
      q: P(X <= x).
      tail: P(X > x).
      distribution: Has `cdf`, `survival_function` and `log_prob`.
    """
    if not torch.is_grad_enabled():
        return root
    finite = root.isfinite()
    at = torch.where(finite, root, 0.0)
    missing = torch.where(
        q <= 0.5, q - distribution.cdf(at), distribution.survival_function(at) - tail
    )
    gradient = distribution.log_prob(at).detach().exp()
    usable = finite & (gradient > torch.finfo(gradient.dtype).tiny) & gradient.isfinite()
    step = (missing - missing.detach()) / torch.where(usable, gradient, 1.0)
    return root + torch.where(usable, step, 0.0)


def smallest_integer(
    q: Tensor,
    tail: Tensor,
    cdf: Callable[[Tensor], Tensor],
    survival_function: Callable[[Tensor], Tensor],
    lower: Tensor,
    upper: Tensor,
) -> Tensor:
    """Returns the smallest integer k in [lower, upper] with cdf(k) >= q, up to rounding."""
    slack = 16 * torch.finfo(q.dtype).eps

    def reached(k: Tensor) -> Tensor:
        below = cdf(k)
        upper = (survival_function(k) <= tail * (1.0 + slack)) | (below >= q)
        return torch.where(q <= 0.5, below >= q * (1.0 - slack), upper)

    with torch.no_grad():
        low = torch.where(lower.isfinite(), lower, torch.zeros_like(q)) - 1.0
        low = torch.where(lower.isfinite(), low, -torch.ones_like(q))
        step = torch.ones_like(q)
        while bool((needs := reached(low) & ~lower.isfinite()).any()):
            low, step = torch.where(needs, low - step, low), 2.0 * step
        high, step = torch.where(lower.isfinite(), lower, torch.ones_like(q)), torch.ones_like(q)
        while bool((needs := ~reached(high) & (high < upper)).any()):
            high = torch.where(needs, torch.minimum(high + step, upper), high)
            step = 2.0 * step
        while bool((high - low > 1.0).any()):
            middle = torch.floor(0.5 * (low + high))
            enough = reached(middle)
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        end = torch.where(q <= 0.0, lower, torch.where(tail <= 0.0, upper, high))
        return end
