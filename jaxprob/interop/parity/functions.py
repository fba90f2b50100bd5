"""Elementwise functions that models apply between layers, to recognise one by its values."""

from collections.abc import Callable

import numpy as np
from jax.scipy.special import erf as _erf

__all__ = ["FUNCTIONS", "RELATIONS", "recognise"]


def erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(_erf(x))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _softplus_with_threshold(x: np.ndarray) -> np.ndarray:
    return np.where(x > 20, x, softplus(x))


def _selu(x: np.ndarray) -> np.ndarray:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


ENOUGH = 8
"""With fewer values than this, a function and a constant fit by accident."""

Function = Callable[[np.ndarray], np.ndarray]

FUNCTIONS: dict[str, Function] = {
    "no function": lambda x: x,
    "gelu, erf form": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "gelu, tanh form": _gelu_tanh,
    "gelu, sigmoid form": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "tanh": np.tanh,
    "hard tanh": lambda x: np.clip(x, -1, 1),
    "sigmoid": sigmoid,
    "hard sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "softplus": softplus,
    "softplus, threshold 20": _softplus_with_threshold,
    "softplus of log 2 more": lambda x: softplus(x) - np.log(2),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": _selu,
    **{
        f"leaky relu, slope {slope:g}": lambda x, s=slope: np.where(x > 0, x, s * x)
        for slope in (0.01, 0.1, 0.2, 0.3)
    },
    "exp": np.exp,
    "exp of the half": lambda x: np.exp(0.5 * x),
    "exp, clamped to [-10, 5]": lambda x: np.exp(np.clip(x, -10, 5)),
    **{f"softplus + {f:g}": lambda x, f=f: softplus(x) + f for f in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)},
    **{f"exp + {f:g}": lambda x, f=f: np.exp(x) + f for f in (1e-6, 1e-5, 1e-4, 1e-3)},
    "square": np.square,
    "abs": np.abs,
    "sine": np.sin,
    "negation": np.negative,
    "softmax over the last axis": lambda x: np.exp(x - np.logaddexp.reduce(x, -1, keepdims=True)),
    "log softmax over the last axis": lambda x: x - np.logaddexp.reduce(x, -1, keepdims=True),
    "softmax over axis 1": lambda x: np.exp(x - np.logaddexp.reduce(x, 1, keepdims=True)),
    "log softmax over axis 1": lambda x: x - np.logaddexp.reduce(x, 1, keepdims=True),
}
"""name -> function; order decides where several fit."""

RELATIONS: dict[str, tuple[Function, str]] = {
    "variance against standard deviation": (np.square, "is the square of"),
    "standard deviation against variance": (np.sqrt, "is the root of"),
    "log against value": (np.log, "is the logarithm of"),
    "value against log": (np.exp, "is the exponential of"),
    "log variance against log standard deviation": (lambda t: 2 * t, "is twice"),
    "log standard deviation against log variance": (lambda t: t / 2, "is half of"),
    "precision against scale": (np.reciprocal, "is the inverse of"),
    "precision against variance": (lambda t: t**-2, "is the inverse square of"),
    "sign": (np.negative, "is the negative of"),
}
"""What JAX's value may be of PyTorch's."""


def recognise(source: np.ndarray, target: np.ndarray, tolerance: float) -> str | None:
    """Returns the name of the function that makes `target` from `source`, or None.

    If none does as it is, one that leaves a constant is named with the constant.
    """
    if source.shape != target.shape or not source.size:
        return None
    scale = np.max(np.abs(target)) or 1.0
    shifted = None
    for name, function in FUNCTIONS.items():
        with np.errstate(all="ignore"):
            try:
                made = function(source)
            except (ValueError, np.exceptions.AxisError):
                continue
            difference = target - made
            error = np.max(np.abs(difference)) / scale
        if error <= tolerance:
            return name
        if (
            not shifted
            and source.size >= ENOUGH
            and np.ptp(difference) <= tolerance * scale < abs(np.median(difference))
        ):
            shifted = f"{name} + {np.median(difference):.6g}"
    return shifted
