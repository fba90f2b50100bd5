"""Gradients and second derivatives by small steps in many digits, and what they say of rounding.

A step is 1e-20 of the length on which a law changes, so that with 80 digits and more the first
derivative has some 40 of them and the second 20.
"""

import mpmath as mp

from tests.extremes.integrals import DIGITS
from tests.extremes.laws import Law

__all__ = ["jet", "precision", "spread", "steps"]

STEP = mp.mpf(10) ** -20


def steps(law: Law, columns, kinds):
    """How far each column is moved for a derivative; 0 where it is not."""
    n = law.values
    sizes = []
    if len(columns) == len(law.columns):
        unit = law.unit(*columns)
    else:  # parameters alone
        unit = min([1, *(c for c, k in zip(columns, kinds, strict=True) if k == "log" and c > 0)])
    for i, (c, kind) in enumerate(zip(columns, kinds, strict=True)):
        if kind == "fixed" or not mp.isfinite(c):
            size = mp.mpf(0)
        elif kind == "real":
            size = unit
        elif kind == "logit":
            size = max(mp.mpf(1), abs(c))
        elif kind == "log":
            size = abs(c) or (unit if i < n else mp.mpf(1))
        else:
            size = min(c, 1 - c) or mp.mpf(1)
            size = size if size > 0 else mp.mpf(1)
            size = -size if c == 1 else size
        sizes.append(size * STEP)
    return sizes


def jet(fn, columns, sizes):
    """Values, gradients and second derivatives of a function that returns several numbers."""

    def at(*moves):
        moved = list(columns)
        for i in moves:
            moved[i] += sizes[i]
        return fn(*moved)

    base, n = at(), len(columns)
    once = [at(i) if sizes[i] else base for i in range(n)]
    twice = [at(i, i) if sizes[i] else base for i in range(n)]
    zero = mp.mpf(0)
    out = []
    cross = {(i, j): at(i, j) for i in range(n) for j in range(i) if sizes[i] and sizes[j]}
    for k, value in enumerate(base):
        if not mp.isfinite(value):
            out.append((value, None, None))
            continue
        noise = (abs(value) or 1) * mp.mpf(10) ** (6 - mp.mp.dps)
        gradient, hessian = [], [[zero] * n for _ in range(n)]
        for i in range(n):
            h = sizes[i]
            a, b = once[i][k], twice[i][k]
            first, second = 4 * a - b - 3 * value, b - 2 * a + value
            gradient.append(first / (2 * h) if h and not abs(first) <= noise else zero)
            hessian[i][i] = second / h**2 if h and not abs(second) <= noise else zero
            for j in range(i):
                if h and sizes[j]:
                    mixed = cross[i, j][k] - a - once[j][k] + value
                    mixed = mixed / (h * sizes[j]) if not abs(mixed) <= noise else zero
                    hessian[i][j] = hessian[j][i] = mixed
        out.append((value, gradient, hessian))
    return out


def spread(columns, partials):
    total = mp.mpf(0)
    for c, slope in zip(columns, partials, strict=True):
        if c != 0 and mp.isfinite(c) and mp.isfinite(slope):
            total += abs(c * slope)
    return total


def precision(law: Law, columns):
    """Digits that steps from the smallest and the largest of the numbers need."""
    if law.sums:  # of terms as far apart as the dtype's numbers
        return 460
    sizes = [abs(mp.log10(abs(c))) for c in columns if c != 0 and mp.isfinite(c)]
    return DIGITS + 2 * int(max(0, max(sizes, default=0) - 20))
