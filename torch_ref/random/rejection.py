"""Gamma draws by rejection, and the distributions made of them.

    alpha >= 1:   d = alpha - 1/3,  c = 1/(3 sqrt(d)),  v = (1 + c x)^3 for normal x, redrawn until
                  v > 0;  d v is accepted if u < 1 - 0.0331 x^4
                  or log u < x^2/2 + d (1 - v + log v)
    alpha < 1:    gamma(alpha + 1) times u^(1/alpha)
    beta          g_a / (g_a + g_b)               dirichlet   g_i / sum g
    student t     normal sqrt((df/2) / gamma(df/2))

Source: G. Marsaglia and W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26,
2000, with random numbers used as `jax.random` 0.10 does: every element has a key of its own, so one
that needs more attempts does not move its neighbours. No gradient with respect to alpha.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_ref.random.base import float_dtype, uniform
from torch_ref.random.continuous import exponential, normal
from torch_ref.random.elementary import fma, log, rsqrt, sqrt
from torch_ref.random.keys import check_key, split

__all__ = ["beta", "dirichlet", "gamma", "loggamma", "student_t"]


def gamma(
    key: Tensor,
    a: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from the gamma distribution of rate 1.

    Args:
        key: Keys `[*batch, 2]`.
        a: Concentration alpha; a tensor broadcasts against `[*batch, *shape]`.
        shape: Shape of one draw; default the shape of `a`.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    keys, a = _element_keys(key, a, shape, dtype)
    key, boost_key = split(keys).unbind(-2)
    d, v = _marsaglia_tsang(key, torch.where(a >= 1, a, a + 1))
    boost = (1 - uniform(boost_key, (), a.dtype)) ** (1 / a)
    return d * v * torch.where(a >= 1, 1.0, boost)


def loggamma(
    key: Tensor,
    a: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws the logarithm of `gamma`, which does not underflow for small `a`.

    Args:
        key: Keys `[*batch, 2]`.
        a: Concentration alpha; a tensor broadcasts against `[*batch, *shape]`.
        shape: Shape of one draw; default the shape of `a`.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    keys, a = _element_keys(key, a, shape, dtype)
    key, boost_key = split(keys).unbind(-2)
    d, v = _marsaglia_tsang(key, torch.where(a >= 1, a, a + 1))
    log_u = -exponential(boost_key, (), a.dtype)
    log_boost = torch.where((a >= 1) | (log_u == 0), 0.0, log_u * (1 / a))
    return log(d) + log(v) + log_boost


def _element_keys(
    key: Tensor, a: float | Tensor, shape: Sequence[int] | None, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Gives every element a key: returns keys `[*batch, *shape, 2]` and `a` of that shape."""
    check_key(key)
    a = torch.as_tensor(a, dtype=float_dtype(dtype), device=key.device).detach()
    shape = tuple(a.shape if shape is None else shape)
    full = key.shape[:-1] + shape
    # One flat split, so that element i gets key i whatever the shape.
    return split(key, math.prod(shape)).reshape(*full, 2), a.expand(full)


def _marsaglia_tsang(key: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Draws d and v, whose product is gamma(alpha), for alpha of at least 1.

    Args:
        key: Keys `[*shape, 2]`, one per element.
        alpha: Concentrations `[*shape]`.

    Returns:
        d and v, each `[*shape]`.
    """
    third, squeeze = alpha.new_tensor([1 / 3, -0.0331])
    d = alpha - third
    flat_key, flat_d = key.reshape(-1, 2), d.reshape(-1)
    accepted = torch.ones_like(flat_d)
    index = torch.arange(flat_d.numel(), device=key.device)
    while index.numel():
        flat_key, normal_key, uniform_key = split(flat_key, 3).unbind(-2)
        x, v = _positive_root(normal_key, third * rsqrt(flat_d))
        x2, v = x * x, v * v * v
        u = uniform(uniform_key, (), d.dtype)
        accepted[index] = v
        doubtful = u >= fma(x2 * x2, squeeze, 1.0)
        again = doubtful & (log(u) >= x2 * 0.5 + flat_d * ((1 - v) + log(v)))
        index, flat_key, flat_d = index[again], flat_key[again], flat_d[again]
    return d, accepted.reshape(d.shape)


def _positive_root(key: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Draws normal x until v = 1 + c x is positive: returns x and v `[n]` for keys `[n, 2]`."""
    x, v = torch.zeros_like(c), torch.full_like(c, -1.0)
    index = torch.arange(c.numel(), device=c.device)
    while index.numel():
        key, subkey = split(key).unbind(-2)
        x[index] = normal(subkey, (), c.dtype)
        v[index] = fma(x[index], c[index], 1.0)
        again = v[index] <= 0
        index, key = index[again], key[again]
    return x, v


def beta(
    key: Tensor,
    a: float | Tensor,
    b: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from the beta distribution.

    Args:
        key: Keys `[*batch, 2]`.
        a: First concentration; a tensor broadcasts against `[*batch, *shape]`.
        b: Second concentration, likewise.
        shape: Shape of one draw; default the broadcast shape of `a` and `b`.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers in [0, 1], `[*batch, *shape]`.
    """
    check_key(key)
    if shape is None:
        shape = torch.broadcast_shapes(*(torch.as_tensor(v).shape for v in (a, b)))
    key_a, key_b = split(key).unbind(-2)
    log_a, log_b = loggamma(key_a, a, shape, dtype), loggamma(key_b, b, shape, dtype)
    top = torch.maximum(log_a, log_b)
    gamma_a, gamma_b = torch.exp(log_a - top), torch.exp(log_b - top)
    return gamma_a / (gamma_a + gamma_b)


def dirichlet(
    key: Tensor,
    alpha: Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from the Dirichlet distribution.

    Args:
        key: Keys `[*batch, 2]`.
        alpha: Concentrations `[..., n]`; `...` broadcasts against `[*batch, *shape]`.
        shape: Shape of one draw, without the last axis; default that of `alpha`.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Points of the simplex `[*batch, *shape, n]`.
    """
    shape = tuple(alpha.shape[:-1] if shape is None else shape)
    return torch.softmax(loggamma(key, alpha, shape + alpha.shape[-1:], dtype), -1)


def student_t(
    key: Tensor,
    df: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws from Student's t distribution of location 0 and scale 1 (`jax.random.t`).

    Args:
        key: Keys `[*batch, 2]`.
        df: Degrees of freedom; a tensor broadcasts against `[*batch, *shape]`.
        shape: Shape of one draw; default the shape of `df`.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    check_key(key)
    dtype = float_dtype(dtype)
    half_df = torch.as_tensor(df, dtype=dtype, device=key.device) / 2
    shape = tuple(half_df.shape if shape is None else shape)
    key_n, key_g = split(key).unbind(-2)
    ratio = half_df / gamma(key_g, half_df, shape, dtype)
    return normal(key_n, shape, dtype) * sqrt(ratio)
