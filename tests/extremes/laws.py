"""The laws, from their textbook formulas in mpmath; nothing is shared with the package.

A law is a function of columns: those of the value and then those of the parameters.

    density(*columns)     log p(x), x inside or at an end of the support
    tail(*columns)        (log of a tail, whether it is P(X <= x)), x strictly inside
    ends(*parameters)     of the support
    facts                 name -> function of the parameters: entropy, mean, variance
    kl(*p, *q)            KL(p || q)

`kinds` says how far the law may be moved in each column to take a derivative: "real" columns by
`unit(*columns)`, "log" ones by a share of themselves, "unit" ones of the distance to 0 and 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp

from tests.extremes.integrals import (
    beta_tail,
    exp,
    falling_length,
    from_here,
    gamma_tail,
    log1mexp,
    log_i0e,
    rule,
)

__all__ = ["Law", "REAL", "both", "continuous_laws", "log_ndtr", "xlog"]

mpf = mp.mpf
half = mpf(1) / 2
INF = mp.inf


class Law(NamedTuple):
    """See the module's docstring."""

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    density: Callable[..., Any]
    tail: Callable[..., Any] | None = None
    ends: Callable[..., Any] = lambda *parameters: (-INF, INF)
    facts: dict[str, Callable[..., Any]] = {}
    kl: Callable[..., Any] | None = None
    unit: Callable[..., Any] = lambda *columns: mpf(1)
    discrete: bool = False
    values: int = 1
    kink: Callable[..., bool] = lambda *columns: False
    sums: bool = False  # whether terms of all sizes are added in it


REAL = ("real", "real", "log")
LOCATED = ("value", "loc", "scale")


def both(tail):
    """(log P(X <= x), log P(X > x))."""
    log_tail, is_lower = tail
    other = log1mexp(log_tail)
    return (log_tail, other) if is_lower else (other, log_tail)


def xlog(times, x):
    """times log x, with 0 log 0 = 0."""
    return mpf(0) if times == 0 else times * mp.log(x)


def log_ndtr(z):
    """log Phi(z)."""
    if z > 0:
        return log1mexp(log_ndtr(-z))
    if z < -(mpf(10) ** 6):  # Mills' ratio
        w = 1 / z**2
        series = 1 - w + 3 * w**2 - 15 * w**3 + 105 * w**4 - 945 * w**5 + 10395 * w**6
        return -z * z / 2 - mp.log(2 * mp.pi) / 2 - mp.log(-z) + mp.log(series)
    return mp.log(mp.erfc(-z / mp.sqrt(2)) / 2)


def normal_tail(x, m, s):
    z = (x - m) / s
    return log_ndtr(-abs(z)), z <= 0


def normal_density(x, m, s):
    return -(((x - m) / s) ** 2) / 2 - mp.log(2 * mp.pi) / 2 - mp.log(s)


def normal_kl(m, s, n, t):
    return mp.log(t / s) + (s * s + (m - n) ** 2) / (2 * t * t) - half


def located_unit(x, m, s):
    return max(s, abs(x - m))


def gumbel_tail(x, m, s):
    return -exp(-(x - m) / s), True


def gumbel_kl(m, s, n, t):
    r = s / t
    return -mp.log(r) + mp.euler * (r - 1) + (m - n) / t + mp.gamma(1 + r) * exp(-(m - n) / t) - 1


def logistic_density(x, m, s):
    z = abs(x - m) / s
    return -z - 2 * mp.log1p(exp(-z)) - mp.log(s)


def logistic_tail(x, m, s):
    z = (x - m) / s
    return -abs(z) - mp.log1p(exp(-abs(z))), z <= 0


def cauchy_tail(x, m, s):
    z = (x - m) / s
    return mp.log(mp.atan2(1, abs(z)) / mp.pi), z <= 0


def laplace_kl(m, s, n, t):
    gap = abs(m - n)
    return (gap + s * exp(-gap / s)) / t - 1 + mp.log(t / s)


def student_density(x, df, m, s):
    z = (x - m) / s
    front = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2
    return front - mp.log(s) - (df + 1) / 2 * mp.log1p(z * z / df)


def student_tail(x, df, m, s):
    z = (x - m) / s
    if z == 0:
        return mp.log(half), True
    total = df + z * z
    log_tail = both(beta_tail(df / 2, half, df / total, z * z / total))[0]
    return log_tail - mp.log(2), z < 0


def student_entropy(df, m, s):
    a = df / 2
    front = mp.loggamma(a) + mp.loggamma(half) - mp.loggamma(a + half) + mp.log(df) / 2
    return (a + half) * (mp.digamma(a + half) - mp.digamma(a)) + front + mp.log(s)


def student_variance(df, m, s):
    return s**2 * df / (df - 2) if df > 2 else (INF if df > 1 else mp.nan)


def gamma_density(x, a, b):
    return a * mp.log(b) - mp.loggamma(a) + xlog(a - 1, x) - b * x


def gamma_kl(a, b, c, d):
    same = mp.loggamma(c) - mp.loggamma(a) + c * mp.log(b / d)
    return (a - c) * mp.digamma(a) + same + a * (d - b) / b


def inverse_gamma_density(x, a, b):
    if x == 0:
        return -INF
    return a * mp.log(b) - mp.loggamma(a) - (a + 1) * mp.log(x) - b / x


def inverse_gamma_tail(x, a, b):
    log_tail, is_lower = gamma_tail(a, b / x)
    return log_tail, not is_lower


def gamma_entropy(a, b):
    return a - mp.log(b) + mp.loggamma(a) + (1 - a) * mp.digamma(a)


def weibull_density(x, s, k):
    return mp.log(k / s) + xlog(k - 1, x / s) - (x / s) ** k


def weibull_variance(s, k):
    return s**2 * (mp.gamma(1 + 2 / k) - mp.gamma(1 + 1 / k) ** 2)


def weibull_kl(s, k, t, j):
    expected = (s / t) ** j * mp.gamma(1 + j / k)
    return mp.log(k / j) - j * mp.log(s / t) + mp.euler * (j / k - 1) + expected - 1


def half_normal_tail(x, s):
    z = x / s
    if z < 1:
        return mp.log(mp.erf(z / mp.sqrt(2))), True
    return mp.log(2) + log_ndtr(-z), False


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def beta_density(x, a, b):
    rest = xlog(b - 1, 1 - x) if x > half else (b - 1) * mp.log1p(-x)
    return xlog(a - 1, x) + rest - log_beta(a, b)


def beta_entropy(a, b):
    inner = (a - 1) * mp.digamma(a) + (b - 1) * mp.digamma(b) - (a + b - 2) * mp.digamma(a + b)
    return log_beta(a, b) - inner


def beta_kl(a, b, c, d):
    front = log_beta(c, d) - log_beta(a, b)
    inner = (a - c) * mp.digamma(a) + (b - d) * mp.digamma(b)
    return front + inner + (c - a + d - b) * mp.digamma(a + b)


def uniform_tail(x, low, high):
    below = x - low <= high - x
    return mp.log((x - low if below else high - x) / (high - low)), below


def uniform_kl(a, b, c, d):
    return mp.log((d - c) / (b - a)) if c <= a and b <= d else INF


def von_mises_density(x, m, k):
    return -2 * k * mp.sin((x - m) / 2) ** 2 - mp.log(2 * mp.pi) - log_i0e(k)


def von_mises_tail(x, m, k):
    z = abs(x - m)
    if z * mp.sqrt(k + 1) < mpf("0.7"):  # from the centre, which has 1/2 on either side
        nodes = zip(*rule(), strict=True)
        area = z * mp.fsum(w * exp(-2 * k * mp.sin(z * t / 2) ** 2) for t, w in nodes)
        return mp.log(half - area * exp(von_mises_density(m, m, k))), x <= m
    rate, curve = k * abs(mp.sin(z)), k * abs(mp.cos(z))
    length = falling_length(rate, curve + 1)
    area = from_here(lambda s: -2 * k * mp.sin(s / 2) * mp.sin(z + s / 2), length, room=mp.pi - z)
    return von_mises_density(x, m, k) + mp.log(area), x <= m


def resultant(k):
    """I1(k) / I0(k)."""
    if k < 20:
        return mp.besseli(1, k) / mp.besseli(0, k)
    h = mpf(10) ** -25 * k  # 1 + d log i0e / dk, to 50 digits
    return 1 + (log_i0e(k + h) - log_i0e(k - h)) / (2 * h)


def von_mises_kl(m, k, n, j):
    r = resultant(k)
    return log_i0e(j) + j - log_i0e(k) - k + r * (k - j * mp.cos(m - n))


def sigmoid_normal_density(x, m, s):
    if x in (0, 1):
        return -INF
    return normal_density(mp.log(x) - mp.log1p(-x), m, s) - mp.log(x) - mp.log1p(-x)


def relaxed_z(x, t, logits):
    return t * (mp.log(x) - mp.log1p(-x)) - logits


def relaxed_density(x, t, logits):
    if x in (0, 1):
        at_end = mp.log(t) + (-logits if x == 0 else logits)
        return at_end if t == 1 else (INF if t < 1 else -INF)
    return logistic_density(relaxed_z(x, t, logits), 0, 1) + mp.log(t) - mp.log(x * (1 - x))


def continuous_laws():
    """Name -> law."""
    positive = {"ends": lambda *parameters: (mpf(0), INF)}
    unit = {"ends": lambda *parameters: (mpf(0), mpf(1))}
    log2pi = mp.log(2 * mp.pi)
    laws = {
        "Normal": Law(
            LOCATED, REAL, normal_density, normal_tail, unit=located_unit, kl=normal_kl,
            facts={"mean": lambda m, s: m, "variance": lambda m, s: s * s,
                   "entropy": lambda m, s: (1 + log2pi) / 2 + mp.log(s)},
        ),
        "StudentT": Law(
            ("value", "df", "loc", "scale"), ("real", "log", "real", "log"), student_density,
            student_tail, unit=lambda x, df, m, s: max(s, abs(x - m)),
            facts={"mean": lambda df, m, s: m if df > 1 else mp.nan, "variance": student_variance,
                   "entropy": student_entropy},
        ),
        "Laplace": Law(
            LOCATED, REAL, lambda x, m, s: -abs(x - m) / s - mp.log(2 * s),
            lambda x, m, s: (-abs(x - m) / s - mp.log(2), x <= m),
            unit=lambda x, m, s: abs(x - m) / 4 or s,
            kl=laplace_kl, kink=lambda x, m, s: x == m,
            facts={"mean": lambda m, s: m, "variance": lambda m, s: 2 * s * s,
                   "entropy": lambda m, s: 1 + mp.log(2 * s)},
        ),
        "Cauchy": Law(
            LOCATED, REAL, lambda x, m, s: -mp.log(mp.pi * s) - mp.log1p(((x - m) / s) ** 2),
            cauchy_tail, unit=located_unit,
            kl=lambda m, s, n, t: mp.log(((s + t) ** 2 + (m - n) ** 2) / (4 * s * t)),
            facts={"mean": lambda m, s: mp.nan, "variance": lambda m, s: INF,
                   "entropy": lambda m, s: mp.log(4 * mp.pi * s)},
        ),
        "Logistic": Law(
            LOCATED, REAL, logistic_density, logistic_tail, unit=located_unit,
            facts={"mean": lambda m, s: m, "variance": lambda m, s: (mp.pi * s) ** 2 / 3,
                   "entropy": lambda m, s: 2 + mp.log(s)},
        ),
        "Gumbel": Law(
            LOCATED, REAL, lambda x, m, s: -(x - m) / s - exp(-(x - m) / s) - mp.log(s),
            gumbel_tail, unit=lambda x, m, s: s if x < m else located_unit(x, m, s), kl=gumbel_kl,
            facts={"mean": lambda m, s: m + mp.euler * s,
                   "variance": lambda m, s: (mp.pi * s) ** 2 / 6,
                   "entropy": lambda m, s: 1 + mp.euler + mp.log(s)},
        ),
        "LogNormal": Law(
            LOCATED, ("log", "real", "log"),
            lambda x, m, s: normal_density(mp.log(x), m, s) - mp.log(x) if x > 0 else -INF,
            lambda x, m, s: normal_tail(mp.log(x), m, s), **positive, kl=normal_kl,
            unit=lambda x, m, s: max(s, abs(mp.log(x) - m)) if x > 0 else s,
            facts={"mean": lambda m, s: exp(m + s * s / 2),
                   "variance": lambda m, s: mp.expm1(s * s) * exp(2 * m + s * s)
                   if s < 1000 else INF,
                   "entropy": lambda m, s: m + (1 + log2pi) / 2 + mp.log(s)},
        ),
        "Gamma": Law(
            ("value", "concentration", "rate"), ("log",) * 3, gamma_density,
            lambda x, a, b: gamma_tail(a, b * x), **positive,
            unit=lambda x, a, b: 1 / b, kl=gamma_kl,
            facts={"mean": lambda a, b: a / b, "variance": lambda a, b: a / b**2,
                   "entropy": gamma_entropy},
        ),
        "InverseGamma": Law(
            ("value", "concentration", "rate"), ("log",) * 3, inverse_gamma_density,
            inverse_gamma_tail, **positive, kl=gamma_kl,
            facts={"mean": lambda a, b: b / (a - 1) if a > 1 else INF,
                   "variance": lambda a, b: b**2 / ((a - 1) ** 2 * (a - 2)) if a > 2 else INF,
                   "entropy": lambda a, b: gamma_entropy(a, 1) + mp.log(b) - 2 * mp.digamma(a)},
        ),
        "Exponential": Law(
            ("value", "rate"), ("log",) * 2, lambda x, r: mp.log(r) - r * x,
            lambda x, r: (-r * x, False), **positive, unit=lambda x, r: 1 / r,
            kl=lambda r, q: mp.log(r / q) + q / r - 1,
            facts={"mean": lambda r: 1 / r, "variance": lambda r: 1 / r**2,
                   "entropy": lambda r: 1 - mp.log(r)},
        ),
        "HalfNormal": Law(
            ("value", "scale"), ("log",) * 2, lambda x, s: mp.log(2) + normal_density(x, 0, s),
            half_normal_tail, **positive, unit=lambda x, s: s,
            kl=lambda s, t: normal_kl(0, s, 0, t),
            facts={"mean": lambda s: s * mp.sqrt(2 / mp.pi),
                   "variance": lambda s: s * s * (1 - 2 / mp.pi),
                   "entropy": lambda s: half + mp.log(mp.pi * s * s / 2) / 2},
        ),
        "Weibull": Law(
            ("value", "scale", "concentration"), ("log",) * 3, weibull_density,
            lambda x, s, k: (-((x / s) ** k), False), **positive, kl=weibull_kl,
            unit=lambda x, s, k: s,
            facts={"mean": lambda s, k: s * mp.gamma(1 + 1 / k), "variance": weibull_variance,
                   "entropy": lambda s, k: mp.euler * (1 - 1 / k) + mp.log(s / k) + 1},
        ),
        "Beta": Law(
            ("value", "concentration1", "concentration0"), ("unit", "log", "log"), beta_density,
            lambda x, a, b: beta_tail(a, b, x), **unit, kl=beta_kl,
            facts={"mean": lambda a, b: a / (a + b), "entropy": beta_entropy,
                   "variance": lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1))},
        ),
        "Uniform": Law(
            ("value", "low", "high"), ("real",) * 3, lambda x, a, b: -mp.log(b - a), uniform_tail,
            ends=lambda a, b: (a, b), kl=uniform_kl,
            unit=lambda x, a, b: min(x - a, b - x) or b - a,
            facts={"mean": lambda a, b: (a + b) / 2, "variance": lambda a, b: (b - a) ** 2 / 12,
                   "entropy": lambda a, b: mp.log(b - a)},
        ),
        "VonMises": Law(
            ("value", "loc", "concentration"), ("real", "real", "log"), von_mises_density,
            von_mises_tail, kl=von_mises_kl, ends=lambda m, k: (m - mp.pi, m + mp.pi),
            unit=lambda x, m, k: 1 / (1 + mp.sqrt(k)),
            facts={"mean": lambda m, k: m, "variance": lambda m, k: 1 - resultant(k),
                   "entropy": lambda m, k: mp.log(2 * mp.pi) + log_i0e(k) + k - k * resultant(k)},
        ),
        "RelaxedBernoulli": Law(
            ("value", "temperature", "logits"), ("unit", "log", "real"), relaxed_density,
            lambda x, t, g: logistic_tail(relaxed_z(x, t, g), 0, 1), **unit,
            unit=lambda x, t, g: max(mpf(1), abs(g)),
        ),
        "Transformed(Normal, Sigmoid)": Law(
            LOCATED, ("unit", "real", "log"), sigmoid_normal_density,
            lambda x, m, s: normal_tail(mp.log(x) - mp.log1p(-x), m, s), **unit,
            unit=lambda x, m, s: max(s, abs(m)),
        ),
    }  # fmt: skip
    laws["Transformed(Normal, Exp)"] = laws["LogNormal"]._replace(facts={}, kl=None)
    return laws
