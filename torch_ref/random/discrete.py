"""Discrete draws that no loop is needed for.

    bernoulli    u < p                                rademacher   2 bernoulli(1/2) - 1
    randint      lo + (h (2^k mod s) + l) mod s,  s = hi - lo,  h and l two k-bit words
    categorical  argmax(logits + gumbel)

Source: `jax.random` 0.10. The first three are equal to JAX to the last bit; `categorical` is unless
two scores tie within rounding.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from torch_ref.random.base import default_int_dtype, float_dtype, uniform
from torch_ref.random.continuous import gumbel
from torch_ref.random.keys import check_key, split
from torch_ref.random.threefry import counter_hash, to_numpy

__all__ = ["bernoulli", "categorical", "rademacher", "randint"]

_NUMPY_INT = {
    torch.uint8: np.uint8,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
}


def bernoulli(
    key: Tensor,
    p: float | Tensor = 0.5,
    shape: Sequence[int] | None = None,
    mode: Literal["low", "high"] = "low",
) -> Tensor:
    """Draws True with probability p.

    Args:
        key: Keys `[*batch, 2]`.
        p: Probability; a tensor broadcasts against `[*batch, *shape]`. Its type, for a number
            torch's default float type, is that of the uniform numbers, so it matters to the draw.
        shape: Shape of one draw; default the shape of `p`.
        mode: "high" spends two uniform numbers on each draw, to be right for tiny `p`.

    Returns:
        Booleans `[*batch, *shape]`.

    Raises:
        ValueError: If `mode` is none of these.
        TypeError: If `p` is a tensor of integers.
    """
    if mode not in ("low", "high"):
        raise ValueError(f'mode must be "low" or "high", got {mode!r}')
    if isinstance(p, Tensor):
        if not p.is_floating_point():
            raise TypeError(f"p must be a float tensor, got {p.dtype}")
        dtype = float_dtype(p.dtype)
    else:
        dtype = float_dtype(None)
        p = torch.tensor(p, dtype=dtype, device=key.device)
    shape = tuple(p.shape if shape is None else shape)
    if mode == "low":
        return uniform(key, shape, dtype) < p
    high, low = uniform(key, (2, *shape), dtype).unbind(key.ndim - 1)
    return low * torch.finfo(dtype).eps < p - high


def rademacher(key: Tensor, shape: Sequence[int] = (), dtype: torch.dtype | None = None) -> Tensor:
    """Draws -1 or 1 with equal probability.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        dtype: Any numeric type; default `default_int_dtype()`. The coins come from uniform numbers
            of torch's default float type, as in JAX from those of its own.

    Returns:
        Numbers `[*batch, *shape]`.
    """
    return (2 * bernoulli(key, 0.5, shape).to(torch.int8) - 1).to(dtype or default_int_dtype())


def randint(
    key: Tensor,
    shape: Sequence[int],
    minval: int | Tensor,
    maxval: int | Tensor,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Draws integers from [minval, maxval).

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of one draw.
        minval: Lowest value; a tensor broadcasts against `[*batch, *shape]`. Clipped to the type.
        maxval: One above the highest value, likewise; may be one above the range of the type. Where
            it is not above `minval`, every draw is `minval`.
        dtype: uint8, int8, int16, int32 or int64; default `default_int_dtype()`. The 64-bit type
            draws other numbers than the rest.

    Returns:
        Integers `[*batch, *shape]`.

    Raises:
        TypeError: If `dtype` is none of these.
    """
    check_key(key)
    dtype = dtype or default_int_dtype()
    if dtype not in _NUMPY_INT:
        raise TypeError(f"dtype must be an integer type that torch computes with, got {dtype}")
    bound = torch.iinfo(dtype)
    low = _host_integers(minval).clip(bound.min, bound.max)
    high = _host_integers(maxval).clip(bound.min, min(bound.max + 1, 2**63 - 1))
    # The host has unsigned arithmetic, which wraps as XLA's does; torch has none.
    a, b = (to_numpy(words) for words in counter_hash(split(key), shape))
    unsigned, bits = (np.uint64, (a << 32) | b) if bound.bits == 64 else (np.uint32, a ^ b)
    upper, lower = np.moveaxis(bits.astype(unsigned), key.ndim - 1, 0)
    with np.errstate(over="ignore", divide="ignore"):
        span = np.where(high <= low, 1, high - low).astype(unsigned)
        multiplier = unsigned(1 << (max(bound.bits, 32) // 2)) % span
        multiplier = multiplier * multiplier % span
        offset = (upper % span * multiplier + lower % span) % span
        # A span that wrapped to 0 stands for the whole range of the type.
        drawn = low.astype(unsigned) + np.where(span == 0, lower, offset)
    return torch.from_numpy(np.asarray(drawn.astype(_NUMPY_INT[dtype]))).to(key.device)


def _host_integers(value: int | Tensor) -> np.ndarray:
    """Converts a bound of `randint` to an int64 array."""
    return np.asarray(to_numpy(value) if isinstance(value, Tensor) else value, np.int64)


def categorical(
    key: Tensor,
    logits: Tensor,
    axis: int = -1,
    shape: Sequence[int] | None = None,
    replace: bool = True,
    mode: Literal["low", "high"] | None = None,
) -> Tensor:
    """Draws class indices with probability proportional to exp(logits).

    Args:
        key: Key `[2]`; with `replace`, also keys `[*batch, 2]`.
        logits: Unnormalised log-probabilities; classes along `axis`, the rest is `rows`.
        axis: Axis of the classes.
        shape: Shape of one draw, `[*sample, *rows]`; default `rows`.
        replace: Whether the samples of a row may repeat. If not, the product of `sample` may not
            exceed the number of classes.
        mode: How the Gumbel noise is drawn, see `gumbel`.

    Returns:
        Int64 indices `[*batch, *shape]`.

    Raises:
        ValueError: If `shape` does not end in `rows`, or asks for too many without replacement.
    """
    check_key(key, single=not replace)
    axis %= logits.ndim
    num_classes = logits.shape[axis]
    rows = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    shape = tuple(rows if shape is None else shape)
    sample = shape[: len(shape) - len(rows)]
    if shape != sample + rows:
        raise ValueError(f"shape must end in the batch shape of logits {rows}, got {shape}")
    if replace:
        noise = gumbel(key, sample + tuple(logits.shape), logits.dtype, mode)
        return torch.argmax(noise + logits, dim=axis - logits.ndim)
    num_draws = math.prod(sample)
    if num_draws > num_classes:
        raise ValueError(
            f"cannot draw {num_draws} times without replacement from {num_classes} classes: "
            "ask for fewer or pass replace=True"
        )
    scores = (logits + gumbel(key, logits.shape, logits.dtype, mode)).movedim(axis, -1)
    # A stable sort breaks ties by the lower index, as XLA does; torch.topk need not.
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices[..., :num_draws]
    return order.movedim(-1, 0).reshape(shape)
