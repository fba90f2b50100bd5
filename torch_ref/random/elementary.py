"""Elementary functions with XLA's rounding rather than torch's: the same formula, step by step.

    log(x)   = e log 2 + z - z^2/2 + z^3 p(z),  x = 2^e (1 + z),  1/sqrt(2) <= 1 + z < sqrt(2)
    log1p(x) = x - x^2/2 + x^3 n(x)/d(x)  for |x| < sqrt(2) - 1,  else log(1 + x)

A sampler that compares logarithms turns their last bit into another accepted draw, so float32
follows XLA's CPU code to the bit: it contracts x y + z to one rounding, which float64 arithmetic
can do for float32. Float64 keeps the formulas and rounds twice, since torch has no wider type; it
is within a few units in the last place.

Sources: S. Moshier's Cephes library (`logf`, `log1p`: coefficients), which XLA follows.

Functions with an argument `xp` take NumPy arrays or tensors, `xp` being the module, and use only
what the two spell alike. NumPy serves tensors on the CPU: one of its operations on a small array
costs a third of torch's.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torch_ref.random.threefry import on_host, to_numpy

__all__ = ["cumsum", "log", "log1p", "rsqrt", "sqrt"]

Array: TypeAlias = Any  # np.ndarray on the host, Tensor elsewhere
Coefficients: TypeAlias = tuple[float, ...]


def on_tensor(function: Callable[[Array, ModuleType], Array], x: Tensor) -> Tensor:
    """Applies a function of (array, module) to a tensor, without gradient."""
    if on_host(x):
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.asarray(function(to_numpy(x), np)))
    return function(x.detach(), torch)


def as_float32(*values: float) -> Coefficients:
    """Rounds constants to float32, as a compiler of float32 code does."""
    return tuple(float(np.float32(v)) for v in values)


def widen(x: Array) -> Array:
    """Converts to float64."""
    return x.double() if isinstance(x, Tensor) else x.astype(np.float64)


def narrow(x: Array, like: Array) -> Array:
    """Converts to the type of `like`."""
    return x.to(like.dtype) if isinstance(x, Tensor) else x.astype(like.dtype, copy=False)


def fma(x: Array, y: Array | float, z: Array | float) -> Array:
    """Computes x y + z, with one rounding in float32 and two in float64.

    Args:
        x: Array.
        y: Array of the shape of `x`, or a number that `x.dtype` holds exactly.
        z: Likewise.

    Returns:
        Array of the shape and type of `x`.
    """
    y, z = (v if isinstance(v, float) else widen(v) for v in (y, z))
    return narrow(widen(x) * y + z, x)


def horner(coefficients: Coefficients, x: Array) -> Array:
    """Evaluates a polynomial given from its highest power down, by nested `fma`."""
    wide = widen(x)
    p = narrow(wide * coefficients[0] + coefficients[1], x)
    for c in coefficients[2:]:
        p = narrow(p * wide + c, x)
    return p


_LOG = (
    as_float32(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1),
    as_float32(-1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1),
    as_float32(2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_ROOT_HALF, _LOG_2_LOW, _LOG_2_HIGH = as_float32(0.5**0.5, -2.12194440e-4, 0.693359375)

_LOG1P_NUMERATOR = (
    *(4.5270000862445199635215e-5, 4.9854102823193375972212e-1, 6.5787325942061044846969e0),
    *(2.9911919328553073277375e1, 6.0949667980987787057556e1, 5.7112963590585538103336e1),
    2.0039553499201281259648e1,
)
_LOG1P_DENOMINATOR = (
    *(1.0, 1.5062909083469192043167e1, 8.3047565967967209469434e1, 2.2176239823732856465394e2),
    *(3.0909872225312059774938e2, 2.1642788614495947685003e2, 6.0118660497603843919306e1),
)
# (bound of the rational function, numerator, denominator), for float32 and not.
_LOG1P = {
    True: (
        *as_float32(0.41421356237309503),
        as_float32(*_LOG1P_NUMERATOR),
        as_float32(*_LOG1P_DENOMINATOR),
    ),
    False: (0.41421356237309503, _LOG1P_NUMERATOR, _LOG1P_DENOMINATOR),
}


def is_float32(x: Array) -> bool:
    """Tells float32 from float64."""
    return x.dtype in (torch.float32, np.float32)


def log_positive(x: Array, xp: ModuleType) -> Array:
    """Logarithm of positive, finite, normal numbers."""
    if not is_float32(x):
        return xp.log(x)
    mantissa, exponent = xp.frexp(x)  # mantissa in [1/2, 1)
    exponent = narrow(exponent, x)
    low = mantissa < _ROOT_HALF
    exponent = xp.where(low, exponent - 1, exponent)
    z = xp.where(low, mantissa - 1 + mantissa, mantissa - 1)
    z2 = z * z
    z3 = widen(z2 * z)
    high, middle, rest = (horner(c, z) for c in _LOG)
    p = narrow(high * z3 + middle, x)
    p = narrow(p * z3 + rest, x)
    p = narrow(p * z3 + exponent * _LOG_2_LOW, x)
    return fma(exponent, _LOG_2_HIGH, fma(z2, -0.5, z) + p)


def log_or_special(x: Array, xp: ModuleType) -> Array:
    """Logarithm of finite numbers."""
    if not is_float32(x):
        return xp.log(x)
    return xp.where(x > 0, log_positive(x, xp), xp.log(x))


def log1p_above(x: Array, xp: ModuleType) -> Array:
    """Natural logarithm of 1 + x for x > -1."""
    bound, numerator, denominator = _LOG1P[is_float32(x)]
    x2 = x * x
    ratio = horner(numerator, x) / horner(denominator, x)
    near = x + fma(x2, -0.5, (x * x2) * ratio)
    return xp.where(xp.abs(x) < bound, near, log_positive(1 + x, xp))


def log(x: Tensor) -> Tensor:
    """Natural logarithm.

    Args:
        x: Float32 or float64, any shape, finite.

    Returns:
        Same shape and type; -inf at 0 and NaN below.
    """
    return on_tensor(log_or_special, x)


def log1p(x: Tensor) -> Tensor:
    """Natural logarithm of 1 + x.

    Args:
        x: Float32 or float64, any shape, finite and above -1.

    Returns:
        Same shape and type.
    """
    return on_tensor(log1p_above, x)


def sqrt(x: Tensor) -> Tensor:
    """Square root, correctly rounded; `torch.sqrt` in float32 need not be on a CPU.

    Args:
        x: Float32 or float64, any shape.

    Returns:
        Same shape and type.
    """
    return on_tensor(lambda x, xp: xp.sqrt(x), x)


def rsqrt(x: Tensor) -> Tensor:
    """Reciprocal square root; XLA refines the processor's estimate and may differ in the last bit.

    Args:
        x: Float32 or float64, any shape.

    Returns:
        Same shape and type.
    """
    return on_tensor(lambda x, xp: narrow(1 / xp.sqrt(widen(x)), x), x)


def cumsum(x: Tensor) -> Tensor:
    """Cumulated sum in XLA's order: within runs of 16, then over the totals of the runs.

    Args:
        x: Float32 or float64 `[n]`.

    Returns:
        Same shape and type.
    """
    (n,), run = x.shape, 16
    rows = torch.nn.functional.pad(x, (0, -n % run)).reshape(-1, run)
    columns = [rows[:, 0]]
    for column in rows.unbind(1)[1:]:
        columns.append(columns[-1] + column)
    within = torch.stack(columns, 1)
    if n > run:
        within[1:] += cumsum(within[:, -1])[:-1, None]
    return within.reshape(-1)[:n]
