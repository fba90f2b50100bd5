"""Computes the digits of the table: python -m tests.extremes.compute [LAW ...] [DTYPE ...]

For each row and method the right value and its spread

    sum_j |c_j| |d value / d c_j|

over the columns c of the row, by how much rounding the arguments alone may move it, over that
rounding. A derivative is taken by steps of 1e-20, with 80 digits and more. A gradient has a spread
of its own, from the second derivatives. What may be any number (a gradient where the density has
none, or an infinite one) is "any".
"""

import gzip
import json
import pathlib
import sys
import time

import mpmath as mp
import numpy as np

from tests.extremes.integrals import DIGITS, exp
from tests.extremes.laws import Law, both
from tests.extremes.laws_of_counts import all_laws
from tests.extremes.rows import rows_of

FOLDER = pathlib.Path(__file__).parent / "digits"
DTYPES = {"float32": np.float32, "float64": np.float64}
TAILS = ("cdf", "survival_function", "log_cdf", "log_survival_function")
WITH_GRADIENT = ("log_prob", "cdf", "log_cdf", "log_survival_function")
STEP = mp.mpf(10) ** -20
# Rows name values of float32 next to 0; these are their counterparts.
IN_DOUBLE = {1e-40: 1e-310, 1.2e-38: 2.3e-308}
INF = mp.inf


def rounded(rows, dtype, values=1):
    """The rows that the dtype can hold, as (label, *floats)."""
    kept = {}
    for label, *numbers in rows:
        if dtype is np.float64:
            numbers = [IN_DOUBLE.get(x, x) for x in numbers]
        with np.errstate(over="ignore", under="ignore"):
            floats = [float(dtype(x)) for x in numbers]
        tiny = np.finfo(dtype).tiny
        held = [np.isfinite(f) or not np.isfinite(x) for f, x in zip(floats, numbers, strict=True)]
        lost = [x != 0 and f == 0 for f, x in zip(floats, numbers, strict=True)]
        small = [0 < abs(f) < tiny for f in floats[values:]]
        if all(held) and not any(lost) and not any(small):
            kept.setdefault(tuple(floats), label)
    return [(label, *floats) for floats, label in kept.items()]


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
        noise = abs(value) * mp.mpf(10) ** (6 - mp.mp.dps)
        gradient, hessian = [], [[zero] * n for _ in range(n)]
        for i in range(n):
            h = sizes[i]
            a, b = once[i][k], twice[i][k]
            first, second = 4 * a - b - 3 * value, b - 2 * a + value
            gradient.append(first / (2 * h) if h and abs(first) > noise else zero)
            hessian[i][i] = second / h**2 if h and abs(second) > noise else zero
            for j in range(i):
                if h and sizes[j]:
                    mixed = cross[i, j][k] - a - once[j][k] + value
                    mixed = mixed / (h * sizes[j]) if abs(mixed) > noise else zero
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


def tails_of(law, columns):
    """The four functions, at a point strictly within the support."""
    log_lower, log_upper = both(law.tail(*columns))
    return [exp(log_lower), exp(log_upper), log_lower, log_upper]


def point(law: Law, columns):
    """Method -> (value, spread) of one row."""
    n = law.values
    names = law.columns
    x, parameters = columns[:n], columns[n:]
    sizes = steps(law, columns, law.kinds)
    out = {}
    low, high = law.ends(*parameters) if n == 1 else (-INF, INF)
    allowed, at_end = True, False
    if n == 1:
        whole = not law.discrete or x[0] == mp.floor(x[0])
        circle = names[-2:] == ("loc", "concentration")
        allowed = circle or (low <= x[0] <= high and whole)
        at_end = x[0] in (low, high)
        if x[0] == high:
            sizes[0] = -abs(sizes[0])
    if names == ("value", "low", "high"):
        sizes[1] = -abs(sizes[1])

    def add(method, value, gradient, hessian, free=()):
        out[method] = (value, None if gradient is None else spread(columns, gradient))
        if method not in WITH_GRADIENT:
            return
        for i, name in enumerate(names):
            if i < n and law.discrete:
                continue
            if name == "total_count" and law.ends(*parameters)[1] < INF or n > 1 and law.discrete and name == "total_count":
                entry = ("any", None)  # trials are whole numbers
            elif gradient is None or name in free or (law.kink(*columns) and name != "scale"):
                entry = ("any", None)
            else:
                entry = (gradient[i], spread(columns, hessian[i]))
                if not mp.isfinite(gradient[i]):
                    entry = ("any", None)
            out[f"d {method} / d {name}"] = entry

    zeros = [mp.mpf(0)] * len(columns)
    if allowed:
        (result,) = jet(lambda *c: [law.density(*c)], columns, sizes)
        free = () if n == 1 else names[:n] if "Dirichlet" in names else ()
        add("log_prob", *result, free=free)
    else:
        add("log_prob", -INF, zeros, [zeros] * len(columns))
    if law.tail is None or n > 1:
        return out
    k = mp.floor(x[0]) if law.discrete else x[0]
    if k < low or k >= high or (at_end and not law.discrete):
        below = k < low or k == low and not law.discrete and k < high
        values = [0, 1, -INF, 0] if below else [1, 0, 0, -INF]
        for method, value in zip(TAILS, map(mp.mpf, values), strict=True):
            gradient = list(zeros)
            free = ()
            if at_end and not law.discrete:
                free = names if names == ("value", "low", "high") else ()
                p = exp(law.density(*columns))
                if not mp.isfinite(p) or not mp.isfinite(value):
                    free = names
                else:
                    sign = {"cdf": 1, "survival_function": -1, "log_cdf": 1}.get(method, -1)
                    gradient[0] = sign * p
            if not mp.isfinite(value):
                # -inf, and no slope; at the end of the support any number
                inner = zeros if not at_end or law.discrete else None
                add(method, value, inner, [zeros] * len(columns))
                continue
            hessian = [zeros] * len(columns)
            if gradient[0] != 0:
                p_jet = jet(lambda *c: [law.density(*c)], columns, sizes)[0]
                slopes = p_jet[1] or zeros
                hessian = [[gradient[0] * s for s in slopes], *hessian[1:]]
            add(method, value, gradient, hessian, free)
        return out
    inner = [k, *parameters]
    results = dict(zip(TAILS, jet(lambda *c: tails_of(law, c), inner, sizes), strict=True))
    # The larger of the two moves by as much as the smaller, and has no digits for it.
    small, large = sorted(TAILS[:2], key=lambda method: results[method][0])
    value, gradient, hessian = results[small]
    turned = ([-g for g in gradient], [[-h for h in row] for row in hessian])
    results[large] = (results[large][0], *turned)
    for method, result in results.items():
        add(method, *result)
    return out


def search(law, q, parameters):
    """x with P(X <= x) = q, by bisection in a variable that reaches all of the support."""
    low, high = law.ends(*parameters)
    name = law.columns
    if law.discrete:
        a, b = (mp.mpf(-1) if low == 0 else low), mp.mpf(1)
        if low == -INF:
            a = -mp.mpf(2)
            while lower(law, a, parameters) >= q:
                a *= 4
        b = max(b, a + 1) if a < 0 else a + 1
        while b < high and lower(law, b, parameters) < q:
            b = 4 * b + 1
        b = min(b, high)
        a = mp.floor(a)
        while b - a > 1:
            m = mp.floor((a + b) / 2)
            a, b = (m, b) if lower(law, m, parameters) < q else (a, m)
        return b
    if low == 0 and high == INF:
        to_x = mp.exp
    elif (low, high) == (0, 1):
        to_x = lambda t: 1 / (1 + mp.exp(-t)) if t > 0 else mp.exp(t) / (1 + mp.exp(t))  # noqa: E731
    elif low > -INF:
        to_x = lambda t: low + (high - low) / (1 + mp.exp(-t))  # noqa: E731
    else:
        at, scale = parameters[name.index("loc") - 1] if "loc" in name else parameters[2], (
            parameters[name.index("scale") - 1] if "scale" in name else parameters[4])
        to_x = lambda t: at + scale * mp.sinh(t)  # noqa: E731
    target = mp.log(q) if q < 0.5 else mp.log1p(-q)

    def gap(t):
        log_lower, log_upper = both(law.tail(to_x(t), *parameters))
        return log_lower - target if q < 0.5 else target - log_upper

    a, b = mp.mpf(-1), mp.mpf(1)
    while gap(a) > 0:
        a, b = 4 * a, a
    while gap(b) < 0:
        a, b = b, 4 * abs(b)
    ga, gb, side = gap(a), gap(b), 0
    for _ in range(1000):  # the Illinois method, and halves where an end is infinite
        known = mp.isfinite(ga) and mp.isfinite(gb) and abs(ga) + abs(gb) < 10**6
        t = b - gb * (b - a) / (gb - ga) if known else (a + b) / 2
        g = gap(t)
        if abs(g) < mp.mpf(10) ** -26 or abs(b - a) < mp.mpf(10) ** -30 * max(1, abs(t)):
            return to_x(t)
        if g > 0:
            b, gb = t, g
            ga, side = (ga / 2 if side == 1 else ga), 1
        else:
            a, ga = t, g
            gb, side = (gb / 2 if side == -1 else gb), -1
    raise ArithmeticError(f"no quantile: {q}, {parameters}")


def lower(law, k, parameters):
    low, high = law.ends(*parameters)
    if k < low:
        return mp.mpf(0)
    return mp.mpf(1) if k >= high else exp(both(law.tail(k, *parameters))[0])


def quantile(law: Law, columns, eps):
    q, parameters = columns[0], columns[1:]
    ends = law.ends(*parameters)
    if q == 0:
        return ends[0], mp.mpf(0)
    if q == 1:
        return ends[1], mp.mpf(0)
    x = search(law, q, parameters)
    at = [x, *parameters]
    if law.discrete and not (ends[0] <= x < ends[1]):
        at[0] = x - 1
    sizes = steps(law, at, law.kinds)
    sizes[0] = mp.mpf(0)
    (_, gradient, _), *_ = jet(lambda *c: tails_of(law, c), at, sizes)
    gradient = gradient or [mp.mpf(0)] * len(at)
    mass = q + spread(at, gradient)
    p = exp(law.density(x, *parameters)) if not law.discrete else lower(law, x, parameters) - lower(
        law, x - 1, parameters)
    size = mass / p if mp.isfinite(p) and p > 0 else mp.mpf(0)
    if law.discrete:
        near = [abs(lower(law, k, parameters) - q) for k in (x - 1, x)]
        if min(near) <= 64 * eps * mass:
            size += 1.2 / (32 * eps)
    return x, size


def compute(name, dtype_name):
    """Returns {part: {"labels", "columns", "methods"}} of one law in one dtype."""
    law, dtype, rows = all_laws()[name], DTYPES[dtype_name], rows_of(name)
    digits = 10 if dtype_name == "float32" else 18
    n = law.values
    eps = float(np.finfo(dtype).eps)

    def text(value):
        return value if isinstance(value, str) else mp.nstr(value, digits)

    def table(rows, columns, row):
        rows = rounded(rows, dtype, n)
        methods = {}
        for i, (label, *floats) in enumerate(rows):
            numbers = [mp.mpf(x) for x in floats]
            with mp.workdps(precision(law, numbers)):
                try:
                    results = row(numbers)
                except Exception as error:
                    raise ArithmeticError(f"{name}: {label} {floats}") from error
            for method, (value, size) in results.items():
                cells = methods.setdefault(method, [[None] * len(rows), [None] * len(rows)])
                cells[0][i] = text(value)
                cells[1][i] = None if size is None else mp.nstr(size, 2)
        cells = [[repr(float(dtype(r[1 + j]))) if dtype is np.float64 else str(dtype(r[1 + j]))
                  for r in rows] for j in range(len(columns))]  # fmt: skip
        return {"labels": [r[0] for r in rows], "columns": dict(zip(columns, cells, strict=True)),
                "methods": methods}  # fmt: skip

    parameters, kinds = law.columns[n:], law.kinds[n:]
    fixed = lambda c, kinds: steps(law._replace(values=0), c, kinds)  # noqa: E731

    def facts(numbers):
        out = {}
        for fact, fn in law.facts.items():
            ((value, gradient, _),) = jet(lambda *c: [fn(*c)], numbers, fixed(numbers, kinds))
            out[fact] = ("nan" if mp.isnan(value) else value,
                         None if gradient is None else spread(numbers, gradient))  # fmt: skip
        return out

    def kl(numbers):
        sizes = fixed(numbers, kinds + kinds)
        ((value, gradient, _),) = jet(lambda *c: [law.kl(*c)], numbers, sizes)
        return {"kl_divergence": (value, None if gradient is None else spread(numbers, gradient))}

    out = {"points": table(rows.points, law.columns, lambda c: point(law, c))}
    if rows.quantiles and law.tail is not None:
        out["quantiles"] = table(
            rows.quantiles, ("q", *parameters), lambda c: {"quantile": quantile(law, c, eps)}
        )
    if rows.parameters and law.facts:
        out["parameters"] = table(rows.parameters, parameters, facts)
    if rows.pairs and law.kl:
        others = tuple(f"other {p}" for p in parameters)
        out["pairs"] = table(rows.pairs, parameters + others, kl)
    return out


def file_of(name):
    return FOLDER / (name.replace(", ", "_").replace("(", "_").replace(")", "") + ".json.gz")


def write(name, dtypes):
    """Computes one law and writes it, keeping what its file has of other dtypes."""
    file = file_of(name)
    before = json.loads(gzip.decompress(file.read_bytes())) if file.exists() else {}
    content = before | {"law": name} | {dtype: compute(name, dtype) for dtype in dtypes}
    data = json.dumps(content, separators=(",", ":")).encode()
    file.write_bytes(gzip.compress(data, 9, mtime=0))


def main(arguments):
    """Computes the laws and dtypes that are named, or all."""
    dtypes = [a for a in arguments if a in DTYPES] or list(DTYPES)
    names = [a for a in arguments if a not in DTYPES] or list(all_laws())
    for name in names:
        start = time.time()
        write(name, dtypes)
        print(f"{name}: {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
