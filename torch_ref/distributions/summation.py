"""Expectations over counts by summation: E g(K) = sum_k p(k) g(k).

All counts of the bulk are added one by one, however many there are.

Twin of `jaxprob/distributions/summation.py`, which integrates where there are more than 256.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from torch_ref.distributions.univariate import Univariate

__all__ = ["entropy_of_counts", "expected_over_counts", "relative_entropy_of_counts"]

MOST = 10_000_000


def expected_over_counts(family: Univariate, values: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns E g(K) `[*batch]`; g takes counts `[N, *batch]`.

    Raises:
      ValueError: More than ten million counts.
    """
    rare = 1e-30 if family.float_dtype() == torch.float64 else 1e-12
    with torch.no_grad():
        shape = family.batch_shape
        tail = torch.full(shape, rare, dtype=family.float_dtype())
        first, last = family.invert(tail, 1.0 - tail), family.invert(1.0 - tail, tail)
        count = int((last - first).max()) + 1 if first.numel() else 0
    if count > MOST:
        raise ValueError(f"expected_over_counts: {count} counts; at most {MOST} are added.")
    total = torch.zeros(shape, dtype=first.dtype)
    for start in range(0, count, 4096):
        steps = torch.arange(start, min(start + 4096, count), dtype=first.dtype)
        k = first + steps.reshape(-1, *[1] * len(shape))
        inside = k <= last
        k = torch.minimum(k, last)
        terms = family._log_density(k).exp() * values(k)
        total = total + torch.where(inside, terms, 0.0).sum(0)
    return total


def entropy_of_counts(family: Univariate) -> Tensor:
    """Returns -sum_k p(k) log p(k) in nats."""
    return expected_over_counts(family, lambda k: -family._log_density(k))


def relative_entropy_of_counts(p: Univariate, q: Univariate) -> Tensor:
    """Returns KL(p || q) in nats for one batch shape, where q's support holds p's."""
    return expected_over_counts(p, lambda k: p._log_density(k) - q._log_density(k))
