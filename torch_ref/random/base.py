"""Random bits and uniform numbers: every other sampler starts from these two.

    bits:     32-bit words are a ^ b, 64-bit words (a << 32) | b, for the Threefry words (a, b)
    uniform:  u = m 2^-n in [0, 1), m the top n bits (n = 23 or 52); then max(lo, u (hi - lo) + lo)

Source: `jax.random` 0.10. XLA compiles the last step to one fused multiply-add where the processor
has that instruction, so it is rounded once here too.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from torch_ref.random.elementary import fma
from torch_ref.random.keys import check_key
from torch_ref.random.threefry import counter_hash

__all__ = ["bits", "default_int_dtype", "float_dtype", "uniform"]

NUMPY_FLOAT = {torch.float32: np.float32, torch.float64: np.float64}


def default_int_dtype() -> torch.dtype:
    """Returns JAX's default integer type: int64 with 64-bit types on, else int32.

    The default float type of torch says which: float64 stands for `jax_enable_x64`. The choice
    matters, since `randint` draws different numbers for different integer types.
    """
    return torch.int64 if torch.get_default_dtype() == torch.float64 else torch.int32


def float_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """Returns `dtype`, or torch's default for None, and refuses all but float32 and float64."""
    dtype = dtype or torch.get_default_dtype()
    if dtype not in NUMPY_FLOAT:
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    return dtype


def bits(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws uniformly random bits.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: `torch.uint8`, `uint16`, `uint32` or `uint64`. Default: `uint64` if torch's default
            float type is float64, else `uint32`, as JAX with and without 64-bit types.

    Returns:
        Unsigned integers `[*batch, *shape]`. Torch can store these types, view them as signed and
        convert them, but computes little with them.

    Raises:
        ValueError: If `dtype` is none of the four.
    """
    check_key(key)
    if dtype is None:
        dtype = torch.uint64 if default_int_dtype() == torch.int64 else torch.uint32
    if dtype not in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
        raise ValueError(f"dtype must be an unsigned integer type, got {dtype}")
    a, b = counter_hash(key, shape)
    if dtype == torch.uint64:
        return ((a << 32) | b).view(torch.uint64)
    return ((a ^ b) & torch.iinfo(dtype).max).to(dtype)


def uniform(
    key: Tensor,
    shape: Sequence[int] = (),
    dtype: torch.dtype | None = None,
    minval: float | Tensor = 0.0,
    maxval: float | Tensor = 1.0,
) -> Tensor:
    """Draws uniform numbers from [minval, maxval).

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: float32 or float64; default `torch.get_default_dtype()`.
        minval: Lower end; a tensor broadcasts against `[*batch, *shape]`.
        maxval: Upper end, likewise.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    check_key(key)
    dtype = float_dtype(dtype)
    a, b = counter_hash(key, shape)
    if dtype == torch.float32:
        u = ((a ^ b) >> 9).to(dtype) * 2.0**-23
    else:
        u = ((a << 20) | (b >> 12)).to(dtype) * 2.0**-52
    if isinstance(minval, Tensor) or isinstance(maxval, Tensor):
        low = torch.as_tensor(minval, dtype=dtype, device=key.device)
        high = torch.as_tensor(maxval, dtype=dtype, device=key.device)
        return torch.maximum(low, _fused_multiply_add(u, high - low, low))
    low = NUMPY_FLOAT[dtype](minval)
    span = float(NUMPY_FLOAT[dtype](maxval) - low)
    low = float(low)
    if low == 0.0 and span == 1.0:
        return u
    if abs(math.frexp(span)[0]) == 0.5:  # a power of two: the product is exact anyway
        return (u * span + low).clamp_min(low)
    return _fused_multiply_add(u, u.new_tensor(span), u.new_tensor(low)).clamp_min(low)


def _fused_multiply_add(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Computes x y + z with one rounding (up to ties that a second rounding breaks, about 2^-29).

    Float32 goes through float64, which holds the product exactly. Float64 uses error-free
    transformations: x y = p + e (Dekker 1971) and p + z = s + t (Knuth), then s + (t + e).
    """
    if x.dtype == torch.float32:
        return fma(x, y, z)
    product = x * y
    x_high, x_low = _halves(x)
    y_high, y_low = _halves(y)
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    total = product + z
    shadow = total - product
    error = error + ((product - (total - shadow)) + (z - shadow))
    return total + error


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Splits float64 into two parts of at most 26 bits that add up to it (Veltkamp)."""
    scaled = x * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high
