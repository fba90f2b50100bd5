"""The right values of one row: density, tails and their gradients, or a quantile."""

import mpmath as mp

from tests.extremes.derivatives import jet, spread, steps
from tests.extremes.integrals import exp
from tests.extremes.laws import Law, both

__all__ = ["point", "quantile"]

TAILS = ("cdf", "survival_function", "log_cdf", "log_survival_function")
WITH_GRADIENT = ("log_prob", "cdf", "log_cdf", "log_survival_function")
INF = mp.inf


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
        size = None if gradient is None else spread(columns, gradient)
        if method == "log_prob" and not law.discrete and size is not None:
            size = max(size, mp.mpf(1))  # a density moves so with the unit of the value
        out[method] = (value, size)
        if method not in WITH_GRADIENT:
            return
        for i, name in enumerate(names):
            if i < n and law.discrete:
                continue
            if name == "total_count" and (high < INF or n > 1):
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
        below = k < low or (k == low < high and not law.discrete)
        for method, *entry in beyond(law, columns, sizes, below, at_end and not law.discrete):
            add(method, *entry)
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


def beyond(law: Law, columns, sizes, below, at_end):
    """(method, value, gradient, hessian, free columns) of tails outside the support or at its end.

    At an end the slope towards the value is that from inside; where it is infinite, or belongs to
    a logarithm of 0, any number will do. Outside it is 0.
    """
    zeros = [mp.mpf(0)] * len(columns)
    none = [zeros] * len(columns)
    names = law.columns
    values = [0, 1, -INF, 0] if below else [1, 0, 0, -INF]
    signs = [1, -1, 1, -1]
    for method, value, sign in zip(TAILS, map(mp.mpf, values), signs, strict=True):
        if not at_end:
            yield method, value, zeros, none
        elif not mp.isfinite(value):
            yield method, value, None, None
        else:
            ((log_p, slopes, _),) = jet(lambda *c: [law.density(*c)], columns, sizes)
            p = exp(log_p)
            moves = names == ("value", "low", "high")  # the end itself is a parameter
            free = names if moves or not mp.isfinite(p) else ()
            gradient = [sign * p, *zeros[1:]]
            bends = [[sign * p * slope for slope in slopes or zeros], *none[1:]]
            yield method, value, gradient, bends, free


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
        at, scale = (
            parameters[name.index("loc") - 1] if "loc" in name else parameters[2],
            (parameters[name.index("scale") - 1] if "scale" in name else parameters[4]),
        )
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
    p = (
        exp(law.density(x, *parameters))
        if not law.discrete
        else lower(law, x, parameters) - lower(law, x - 1, parameters)
    )
    size = mass / p if mp.isfinite(p) and p > 0 else mp.mpf(0)
    if law.discrete:
        near = [abs(lower(law, k, parameters) - q) for k in (x - 1, x)]
        if min(near) <= 64 * eps * mass:
            size += 1.2 / (32 * eps)
    return x, size
