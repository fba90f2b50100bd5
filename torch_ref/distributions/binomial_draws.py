"""Binomial draws by inversion and by Hoermann's transformed rejection, in float64.

Twin of `jaxprob/distributions/binomial_draws.py`.
"""

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.distributions.inversion import inverted_counts
from torch_ref.distributions.rejection import first_accepted
from torch_ref.distributions.tails import beta_tails

__all__ = ["binomial_draws"]


def binomial_draws(
    key: Tensor, total_count: Tensor, p: Tensor, q: Tensor, shape: torch.Size
) -> Tensor:
    """Returns successes among `total_count` trials, each with odds p : q, as its own numbers."""
    small_key, large_key = random.split(key).unbind(-2)
    n, p, q = (t.detach().expand(shape) for t in (total_count, p, q))
    n = n.masked_fill((n < 0.0) | (n != n.floor()) | n.isinf() | (p < 0.0) | (q < 0.0), torch.nan)
    rare = torch.minimum(p, q)  # BTRS is for p <= 1/2
    few = n * rare < 10.0
    trials = torch.where(few, n, 0.0).double()
    inverted = inverted_counts(small_key, lambda j: _tail(j, trials, rare), shape, n.dtype)
    # n = 20 and p = 1/2 stand where nothing is asked
    n_large, r_large = torch.where(few, 20.0, n), torch.where(few, 0.5, rare)
    count = torch.where(few, inverted, first_accepted(_btrs, large_key, n_large, r_large))
    return torch.where(p > q, n - count, count)


def _tail(j: Tensor, n: Tensor, r: Tensor) -> Tensor:
    """P(X >= j) = P(Beta(j, n - j + 1) < r)."""
    others = n - j + 1.0
    possible = others > 0.0
    tail, _ = beta_tails(j, torch.where(possible, others, 1.0), r, 1.0 - r.double())
    return torch.where(possible, tail, 0.0)


def _btrs(u: Tensor, v: Tensor, n: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """A count, and whether it is accepted."""
    dtype = n.dtype
    u, v, n, p = u.double() - 0.5, v.double(), n.double(), p.double()
    spq = (n * p * (1.0 - p)).sqrt()
    b = 1.15 + 2.53 * spq
    a = -0.0873 + 0.0248 * b + 0.01 * p
    us = 0.5 - u.abs()
    k = ((2.0 * a / us + b) * u + n * p + 0.5).floor()
    accept_at_once = (us >= 0.07) & (v <= 0.92 - 4.2 / b)
    reject_at_once = (k < 0.0) | (k > n)
    m = ((n + 1.0) * p).floor()
    log_ratio = _log_ways(n, k.clamp(min=0.0).minimum(n)) - _log_ways(n, m)
    log_ratio = log_ratio + (k - m) * (p / (1.0 - p)).log()
    alpha = (2.83 + 5.1 / b) * spq
    too_high = (v * alpha / (a / us.square() + b)).log() > log_ratio
    return k.to(dtype), ~(reject_at_once | (too_high & ~accept_at_once))


def _log_ways(n: Tensor, k: Tensor) -> Tensor:
    return -(k + 1.0).lgamma() - (n - k + 1.0).lgamma()
