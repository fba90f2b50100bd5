"""Poisson and binomial draws: a loop over whole arrays until every element has been accepted.

    poisson   rate < 10:   how many uniform factors keep their product above exp(-rate) (Knuth)
              rate >= 10:  transformed rejection, PTRS
    binomial  n q <= 10:   how many geometric gaps fit into n (inversion)
              n q > 10:    transformed rejection, BTRS;   q = min(p, 1 - p)

Sources: W. Hörmann, "The transformed rejection method for generating Poisson random variables",
Insurance: Mathematics and Economics 12, 1993, and "The generation of binomial random variates",
J. Statist. Comput. Simul. 46, 1993; D. Knuth, TAOCP 2, 3.4.1; L. Devroye, "Non-Uniform Random
Variate Generation", 1986, X.4. Random numbers are used as `jax.random` 0.10 does, habits included:

* both methods run for the whole array, with stand-in parameters where the other one counts;
* an element keeps the last value it accepts before the loop ends, so its draw depends on how many
  iterations the slowest element needs.

A last-bit difference in the slowest element's test may thus change many draws at once, though that
is rare. Poisson rates are float32 in every case, as in JAX.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_ref.random.base import default_int_dtype, float_dtype, uniform
from torch_ref.random.elementary import fma, log, log1p, sqrt
from torch_ref.random.keys import check_key, split
from torch_ref.random.special import lgamma

__all__ = ["binomial", "poisson"]


def poisson(
    key: Tensor,
    lam: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from the Poisson distribution.

    Args:
        key: Keys `[*batch, 2]`.
        lam: Rate; a tensor broadcasts against `shape`, and is the same for every key of a batch.
        shape: Shape of one draw; default the shape of `lam`.
        dtype: Integer type of the counts; default `default_int_dtype()`.

    Returns:
        Counts `[*batch, *shape]`; -1 where the rate is NaN.
    """
    lam = torch.as_tensor(lam, dtype=torch.float32, device=key.device).detach()
    lam = lam.expand(tuple(lam.shape if shape is None else shape))
    small = torch.isnan(lam) | (lam < 10)

    def draw(key: Tensor) -> Tensor:
        counts = torch.zeros_like(lam)
        if small.any():
            counts = torch.where(small, _knuth(key, torch.where(small, lam, 0.0)), counts)
        if not small.all():
            counts = torch.where(small, counts, _ptrs(key, torch.where(small, 1e5, lam)))
        return torch.where(lam == 0, 0.0, counts).to(dtype or default_int_dtype())

    return _for_each_key(draw, key)


def _for_each_key(draw: Callable[[Tensor], Tensor], key: Tensor) -> Tensor:
    """Stacks one draw per key: how long a loop runs is each key's own affair, as under `vmap`."""
    check_key(key)
    if key.ndim == 1:
        return draw(key)
    draws = torch.stack([draw(k) for k in key.reshape(-1, 2).unbind(0)])
    return draws.reshape(key.shape[:-1] + draws.shape[1:])


def _knuth(key: Tensor, lam: Tensor) -> Tensor:
    """Counts uniform factors until their product falls to exp(-lam)."""
    count, log_product = torch.zeros_like(lam), torch.zeros_like(lam)
    while (more := log_product > -lam).any():
        key, subkey = split(key).unbind(-2)
        count = count + more
        log_product = log_product + log(uniform(subkey, lam.shape, lam.dtype))
    return count - 1


def _ptrs(key: Tensor, lam: Tensor) -> Tensor:
    """Hörmann's transformed rejection with squeeze, for rates of at least 10."""
    const = lam.new_tensor
    log_lam = log(lam)
    b = fma(sqrt(lam), const(2.53), const(0.931))
    a = fma(b, const(0.02483), const(-0.059))
    inv_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    count = torch.full_like(lam, -1.0)
    pending = torch.ones_like(lam, dtype=torch.bool)
    while pending.any():
        key, key_u, key_v = split(key, 3).unbind(-2)
        u = uniform(key_u, lam.shape, lam.dtype) - 0.5
        v = uniform(key_v, lam.shape, lam.dtype)
        u_shifted = 0.5 - u.abs()
        k = torch.floor(fma(2 * a / u_shifted + b, u, lam) + 0.43)
        log_v = log(v * inv_alpha / (a / (u_shifted * u_shifted) + b))
        log_ratio = fma(k, log_lam, -lam) - lgamma(k + 1)
        inside = (u_shifted >= 0.07) & (v <= v_r)
        outside = (k < 0) | ((u_shifted < 0.013) & (v > u_shifted))
        accept = inside | (~outside & (log_v <= log_ratio))
        count = torch.where(accept, k, count)
        pending &= ~accept
    return count


def binomial(
    key: Tensor,
    n: float | Tensor,
    p: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from the binomial distribution.

    Args:
        key: Keys `[*batch, 2]`.
        n: Number of trials; a tensor broadcasts against `shape`.
        p: Probability of success, likewise. Its type, for a number torch's default float type, is
            that of the computation, so it matters to the draw.
        shape: Shape of one draw; default the broadcast shape of `n` and `p`.
        dtype: Float type of the counts; default `torch.get_default_dtype()`.

    Returns:
        Whole numbers `[*batch, *shape]`; NaN where `n` or `p` is negative or NaN, inf where `n` is.
    """
    dtype = float_dtype(dtype)
    work = p.dtype if isinstance(p, Tensor) and p.is_floating_point() else float_dtype(None)
    p = torch.as_tensor(p, dtype=work, device=key.device).detach()
    n = torch.as_tensor(n, dtype=work, device=key.device).detach()
    shape = tuple(torch.broadcast_shapes(n.shape, p.shape) if shape is None else shape)
    n, p = n.expand(shape), p.expand(shape)
    q = torch.where(p < 0.5, p, 1 - p)
    n_invalid = torch.isnan(n) | (n < 0)
    invalid = n_invalid | torch.isnan(q) | (q < 0)
    q = torch.where(torch.isnan(q) | (q < 0), 0.01, q)
    few = n_invalid | (n * q <= 10)
    n = torch.floor(n)

    def draw(key: Tensor) -> Tensor:
        counts = torch.zeros_like(n)
        if few.any():
            counts = torch.where(few, _inversion(key, torch.where(few, n, 0.0), q), counts)
        if not few.all():
            rest = _btrs(key, torch.where(few, 1e4, n), torch.where(few, 0.5, q))
            counts = torch.where(few, counts, rest)
        counts = torch.where(p < 0.5, counts, n - counts)
        counts = torch.where(torch.isinf(n), n, counts)
        return torch.where(invalid, math.nan, counts).to(dtype)

    return _for_each_key(draw, key)


def _inversion(key: Tensor, n: Tensor, q: Tensor) -> Tensor:
    """Counts geometric gaps until their sum passes n."""
    log_fail = log1p(-q)
    count, total = torch.zeros_like(q), torch.zeros_like(q)
    while (more := total <= n).any():
        subkey, key = split(key).unbind(-2)
        count = count + more
        total = total + torch.ceil(log(uniform(subkey, q.shape, q.dtype)) / log_fail)
    return count - 1


def _btrs(key: Tensor, n: Tensor, q: Tensor) -> Tensor:
    """Hörmann's transformed rejection with squeeze, for n q of at least 10 and q up to 1/2."""
    const = q.new_tensor
    deviation = sqrt(n * q * (1 - q))
    b = fma(deviation, const(2.53), const(1.15))
    a = fma(q, const(0.01), fma(b, const(0.0248), const(-0.0873)))
    c = fma(n, q, 0.5)
    v_r = 0.92 - 4.2 / b
    odds = q / (1 - q)
    alpha = (2.83 + 5.1 / b) * deviation
    mode = torch.floor((n + 1) * q)
    at_mode = log((mode + 1) / (odds * (n - mode + 1)))
    tails = _stirling_tail(mode), _stirling_tail(n - mode)
    count = torch.full_like(q, -1.0)
    pending = torch.ones_like(q, dtype=torch.bool)
    while pending.any():
        key, key_u, key_v = split(key, 3).unbind(-2)
        u = uniform(key_u, q.shape, q.dtype) - 0.5
        v = uniform(key_v, q.shape, q.dtype)
        u_shifted = 0.5 - u.abs()
        k = torch.floor(fma(2 * a / u_shifted + b, u, c))
        log_v = log(v * alpha / (a / (u_shifted * u_shifted) + b))
        bound = fma(mode + 0.5, at_mode, (n + 1) * log((n - mode + 1) / (n - k + 1)))
        bound = fma(k + 0.5, log(odds * (n - k + 1) / (k + 1)), bound)
        bound = bound + tails[0] + tails[1] - _stirling_tail(k) - _stirling_tail(n - k)
        inside = (u_shifted >= 0.07) & (v <= v_r)
        outside = (k < 0) | (k > n)
        accept = inside | (~outside & (log_v <= bound))
        count = torch.where(accept, k, count)
        pending &= ~accept
    return count


# log k! minus Stirling's formula with k + 1/2 in place of k, for k = 0, ..., 9 (Hörmann, table 1).
_STIRLING_TAIL = (
    *(0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509),
    *(0.0166446911898211, 0.0138761288230707, 0.0118967099458917, 0.010411265261972),
    *(0.00925546218271273, 0.00833056343336287),
)


def _stirling_tail(k: Tensor) -> Tensor:
    """Correction to Stirling's formula for log k!.

    JAX clamps k to [0, 9] before it evaluates the series for k > 9 as well, so beyond the table the
    value stays that of k = 9 instead of falling like 1 / (12 k). Its draws have that in them.
    """
    table = k.new_tensor(_STIRLING_TAIL)
    beyond = (1 / 12 - (1 / 360 - 1 / 1260 / 100) / 100) / 10
    return torch.where(k <= 9, table[k.clamp(0, 9).nan_to_num(0.0).long()], beyond)
