"""Functions with a constant, recognised by their values: the constant is solved for."""

from collections.abc import Callable, Iterator

import numpy as np

from jaxprob.interop.parity.functions import FUNCTIONS, recognise, sigmoid

__all__ = ["fitted"]

ENOUGH = 8
"""With fewer values than this a constant fits by accident."""

FEW = 4
"""Different values of which any function makes any others."""

Solved = tuple[str, float, np.ndarray]
"""Name of the function, its constant, and what it makes of the source."""

SCALED = tuple(name for name in FUNCTIONS if "softmax" not in name and "negation" not in name)


def fitted(source: np.ndarray, target: np.ndarray, tolerance: float) -> str | None:
    """Returns the function that makes `target` from `source`, with its constant, or None.

    A function of `FUNCTIONS` as it is goes first.
    """
    plain = recognise(source, target, tolerance)
    if plain or source.shape != target.shape or source.size < ENOUGH:
        return plain
    if np.unique(source).size < FEW:
        return None  # as many constants as values
    scale = np.max(np.abs(target))
    if not np.isfinite(scale) or np.ptp(target) <= 1e-6 * scale or not np.any(source):
        return None  # a constant is made from anything
    with np.errstate(all="ignore"):
        for solve in (_factors, _inner, _bounds, _slopes, _roots, _norms):
            for name, constant, made in solve(source, target):
                if np.isfinite(constant) and np.max(np.abs(target - made)) <= tolerance * scale:
                    return name.replace("#", f"{constant:.6g}")
    return None


def _factors(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    for name in SCALED:
        made = FUNCTIONS[name](x)
        square = np.vdot(made, made)
        if np.isfinite(square) and square:
            factor = float(np.vdot(made, y) / square)
            yield f"# times {name.replace('no function', 'the values')}", factor, factor * made


INVERSES: dict[str, tuple[Callable, Callable]] = {
    "tanh": (np.tanh, np.arctanh),
    "sigmoid": (sigmoid, lambda y: np.log(y) - np.log1p(-y)),
    "exp": (np.exp, np.log),
    "softplus": (lambda x: np.logaddexp(0, x), lambda y: y + np.log(-np.expm1(-y))),
    "sine": (np.sin, np.arcsin),
    "square": (np.square, np.sqrt),
}
"""name -> (function, inverse near 0)"""


def _inner(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    """f(a x), f(x + b), and softmax(a x)."""
    for name, (function, inverse) in INVERSES.items():
        inside = inverse(y)
        # where neither the inverse nor the quotient loses digits, and a sine has not turned
        size = np.abs(x) if name == "sine" else -np.abs(np.abs(x) - 0.5)
        size = np.where(np.isfinite(inside) & (np.abs(x) > 1e-6), size, np.inf)
        nearest = np.argmin(np.abs(size)) if name != "sine" else np.argmin(size)
        factor = float(inside.flat[nearest] / x.flat[nearest])
        yield f"{name} of # times the values", factor, function(factor * x)
        known = np.isfinite(inside)
        shift = float(np.median((inside - x)[known])) if np.any(known) else np.nan
        yield f"{name} of the values + #", shift, function(x + shift)
    if x.ndim and np.all(y > 0):
        for axis in {-1, 1 - x.ndim} if x.ndim > 1 else {-1}:
            log = np.log(y)
            own = x - np.mean(x, axis, keepdims=True)
            log = log - np.mean(log, axis, keepdims=True)
            factor = float(np.vdot(own, log) / np.vdot(own, own))
            made = np.exp(factor * x - np.logaddexp.reduce(factor * x, axis, keepdims=True))
            where = "the last axis" if axis in (-1, x.ndim - 1) else f"axis {axis % x.ndim}"
            yield f"softmax over {where} of # times the values", factor, made


def _bounds(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    """Clamped, before or after a function."""
    low, high = np.min(y), np.max(y)
    words = f"clamp to [{low:.6g}, {high:.6g}]"
    yield words, 0.0, np.clip(x, low, high)
    for name, (function, inverse) in INVERSES.items():
        below, above = inverse(low), inverse(high)
        if np.isfinite(below) and np.isfinite(above) and name != "square":
            yield (
                f"{name} of a clamp to [{below:.6g}, {above:.6g}]",
                0.0,
                function(np.clip(x, below, above)),
            )
    for bound, side in ((low, "below"), (high, "above")):
        made = np.maximum(x, bound) if side == "below" else np.minimum(x, bound)
        yield f"clamp {side} at #", float(bound), made


def _slopes(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    negative = x < 0
    if not np.any(negative):
        return
    at = np.argmin(np.where(negative, x, np.inf))
    slope = float(y.flat[at] / x.flat[at])
    yield "leaky relu, slope #", slope, np.where(negative, slope * x, x)
    alpha = float(y.flat[at] / np.expm1(x.flat[at]))
    yield "elu, alpha #", alpha, np.where(negative, alpha * np.expm1(np.minimum(x, 0)), x)
    ratio = y / x
    logit = np.log(ratio) - np.log1p(-ratio)
    best = np.argmin(np.where(np.isfinite(logit), np.abs(np.abs(x) - 1.0), np.inf))
    beta = float(logit.flat[best] / x.flat[best])
    yield "silu, beta #", beta, x * sigmoid(beta * x)


def _roots(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    """softplus(b x) / b, by bisection at the value nearest to 0."""
    at = np.argmin(np.abs(x))
    own, wanted, low, high = x.flat[at], y.flat[at], 1e-3, 1e3
    for _ in range(200):
        beta = np.sqrt(low * high)
        if np.logaddexp(0, beta * own) / beta > wanted:
            low = beta
        else:
            high = beta
    yield "softplus, beta #", float(beta), np.logaddexp(0, beta * x) / beta


def _norms(x: np.ndarray, y: np.ndarray) -> Iterator[Solved]:
    """Norms without weights, over the last axis or the second."""
    for axis in {-1, 1 - x.ndim} if x.ndim > 1 else {-1}:
        words = f"over axis {axis % x.ndim}"
        length = np.sqrt(np.sum(x * x, axis, keepdims=True))
        centred = x - np.mean(x, axis, keepdims=True)
        variance = np.mean(centred**2, axis, keepdims=True)
        n = x.shape[axis]
        yield f"length 1 {words}", 0.0, x / length
        yield f"mean 0 {words}", 0.0, centred
        yield f"sum 1 {words}", 0.0, x / np.sum(x, axis, keepdims=True)
        for eps in (0.0, 1e-6, 1e-5, 1e-8, 1e-3, 1e-12):
            yield f"layer norm {words}, epsilon #", eps, centred / np.sqrt(variance + eps)
            yield f"rms norm {words}, epsilon #", eps, x / np.sqrt(length**2 / n + eps)
            deviation = np.sqrt(variance)
            yield f"standard scores {words}, epsilon #", eps, centred / (deviation + eps)
            if n > 1:
                unbiased = deviation * np.sqrt(n / (n - 1))
                yield (
                    f"standard scores by n - 1 {words}, epsilon #",
                    eps,
                    centred / (unbiased + eps),
                )
