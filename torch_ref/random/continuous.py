"""Continuous distributions that are one formula of uniform numbers u.

    normal            sqrt(2) erf_inv(u),  u in (-1, 1)
    truncated normal  the same, with u in [erf(a / sqrt(2)), erf(b / sqrt(2)))
    exponential       -log(1 - u)                     laplace   sign(u) log(1 - |u|),  u in (-1, 1)
    logistic          log(u) - log(1 - u)             gumbel    -log(-log(u))
    cauchy            tan(pi (u - 1/2))

Source: `jax.random` 0.10, sampler by sampler. The uniform numbers are equal to the last bit; the
formulas use torch's elementary functions, so the results agree to a few units in the last place.
Nothing here carries gradients to bounds: reparametrise as `loc + scale * normal(...)`.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from torch_ref.random.base import float_dtype, uniform
from torch_ref.random.elementary import log, log1p
from torch_ref.random.special import erf, erf_inv

__all__ = [
    "cauchy",
    "exponential",
    "gumbel",
    "laplace",
    "logistic",
    "normal",
    "truncated_normal",
]


def normal(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws standard normal numbers.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    dtype = float_dtype(dtype)
    u = uniform(key, shape, dtype, -1.0 + torch.finfo(dtype).eps / 2, 1.0)
    return erf_inv(u).mul_(math.sqrt(2.0))


@torch.no_grad()
def truncated_normal(
    key: Tensor,
    lower: float | Tensor,
    upper: float | Tensor,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws standard normal numbers conditioned on lower < x < upper.

    Args:
        key: Keys `[*batch, 2]`.
        lower: Lower bound; a tensor broadcasts against `[*batch, *shape]`.
        upper: Upper bound, likewise.
        shape: Shape of one draw; default the broadcast shape of the bounds.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    dtype = float_dtype(dtype)
    lower = torch.as_tensor(lower, dtype=dtype, device=key.device)
    upper = torch.as_tensor(upper, dtype=dtype, device=key.device)
    if shape is None:
        shape = torch.broadcast_shapes(lower.shape, upper.shape)
    # XLA multiplies by the reciprocal of the constant sqrt(2) instead of dividing.
    root_two = lower.new_tensor(math.sqrt(2.0))
    root_half = 1.0 / root_two
    u = uniform(key, shape, dtype, erf(lower * root_half), erf(upper * root_half))
    # Rounding must not reach the bounds themselves.
    above = torch.nextafter(lower, lower.new_tensor(math.inf))
    below = torch.nextafter(upper, upper.new_tensor(-math.inf))
    return torch.clamp(erf_inv(u) * root_two, above, below)


def exponential(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws from the exponential distribution of rate 1.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    return -log1p(-uniform(key, shape, dtype))


def laplace(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws from the Laplace distribution of location 0 and scale 1.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    dtype = float_dtype(dtype)
    u = uniform(key, shape, dtype, -1.0 + torch.finfo(dtype).eps / 2, 1.0)
    return torch.sign(u) * log1p(-torch.abs(u))


def logistic(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws from the logistic distribution of location 0 and scale 1.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    u = _uniform_above_zero(key, shape, dtype)
    return log(u) - log1p(-u)


def cauchy(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws from the Cauchy distribution of location 0 and scale 1.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    dtype = float_dtype(dtype)
    u = uniform(key, shape, dtype, torch.finfo(dtype).eps, 1.0)
    return torch.tan((u - 0.5).mul_(math.pi))


def gumbel(
    key: Tensor,
    shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
    mode: Literal["low", "high"] | None = None,
) -> Tensor:
    """Draws from the Gumbel distribution of location 0 and scale 1.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.
        mode: "low" (the default) takes one uniform number each; "high" takes two, which makes
            events rarer than the resolution of a uniform number possible.

    Returns:
        Numbers `[*batch, *shape]`.

    Raises:
        ValueError: If `mode` is none of these.
    """
    if mode in (None, "low"):
        return -log(-log(_uniform_above_zero(key, shape, dtype)))
    if mode != "high":
        raise ValueError(f'mode must be "low", "high" or None, got {mode!r}')
    dtype = float_dtype(dtype)
    info = torch.finfo(dtype)
    high, low = uniform(key, (2, *shape), dtype).unbind(key.ndim - 1)
    u = torch.where(high >= 0.5, high, high + info.eps * low + info.tiny)
    return -log(-log1p(-u))


def _uniform_above_zero(key: Tensor, shape: Sequence[int], dtype: torch.dtype | None) -> Tensor:
    """Draws uniform numbers from [tiny, 1), safe to take the logarithm of."""
    dtype = float_dtype(dtype)
    # Adding `tiny` to any other multiple of the resolution does not change it.
    return uniform(key, shape, dtype).clamp_min_(torch.finfo(dtype).tiny)
