"""Tails of the gamma, the beta and the von Mises law, by series and quadrature in mpmath.

    P(a, x)   = x^a e^-x / Gamma(a + 1)   sum_n x^n / ((a + 1) ... (a + n))
    I_x(a, b) = x^a y^b / (a B(a, b))     sum_n (a + b)_n / (a + 1)_n x^n,   y = 1 - x

have positive terms alone. Where they are too many, the smaller tail is integrated over the
logarithm (the logit) of the variable, by Gauss-Legendre panels that begin at the point and grow:
the densities are log-concave there. Nothing is shared with the package.

Source: Abramowitz & Stegun, "Handbook of Mathematical Functions", 6.5.29 and 26.5.4.
"""

import functools

import mpmath as mp

__all__ = ["DIGITS", "exp", "rule", "beta_tail", "from_here", "gamma_tail", "log1mexp", "log_i0e"]

DIGITS = 80
mp.mp.dps = DIGITS
MOST_TERMS = 2000
# A step for a derivative, from a row right at a mean, must not end in another formula.
PAST = 1 + mp.mpf(10) ** -10
HUGE = mp.mpf(10) ** 40  # exp(-HUGE) is 0 in every dtype
EDGES = (0, 1, 2, 4, 8, 16, 32, 72, 150, 300)


def exp(x):
    """exp, 0 or infinite where its exponent would be a number of more than 40 digits."""
    return mp.exp(x) if abs(x) < HUGE else (mp.inf if x > 0 else mp.mpf(0))


def log1mexp(log_p):
    """log(1 - exp(log_p)) for log_p <= 0."""
    if log_p == 0:
        return -mp.inf
    if log_p < -HUGE:
        return mp.mpf(0)
    return mp.log(-mp.expm1(log_p)) if log_p > -1 else mp.log1p(-mp.exp(log_p))


@functools.cache
def rule(count=24):
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = [], []
    for i in range(count):
        x = mp.cos(mp.pi * (i + mp.mpf("0.75")) / (count + mp.mpf("0.5")))
        for _ in range(8):
            last, p = mp.mpf(1), x
            for n in range(2, count + 1):
                last, p = p, ((2 * n - 1) * x * p - (n - 1) * last) / n
            slope = count * (x * p - last) / (x * x - 1)
            x -= p / slope
        nodes.append((x + 1) / 2)
        weights.append(1 / ((1 - x * x) * slope**2))
    return nodes, weights


def from_here(exponent, length, room=mp.inf):
    """The integral of exp(exponent(s)) over 0 < s < room; it falls by about e on `length`."""
    nodes, weights = rule()
    total, edges = mp.mpf(0), [length * mp.mpf(e) for e in EDGES]
    for low, high in zip(edges, edges[1:], strict=False):
        high = min(high, room)
        if low >= high:
            break
        width = high - low
        part = width * mp.fsum(
            w * mp.exp(exponent(low + width * x)) for x, w in zip(nodes, weights, strict=True)
        )
        total += part
        if part < total * mp.mpf(10) ** -30:
            break
    else:
        raise ArithmeticError("the integrand does not fall")
    return total


def falling_length(rate, curvature):
    """Where rate s + curvature s^2 / 2 = 1."""
    return 2 / (rate + mp.sqrt(rate**2 + 2 * curvature))


def gamma_tail(a, x):
    """(log of a tail, whether it is P(X <= x)) of the gamma law with rate 1, for x > 0."""
    log_front = a * mp.log(x) - x - mp.loggamma(a)
    if x > PAST * max(a, 1):
        area = from_here(lambda s: a * s - x * mp.expm1(s), falling_length(x - a, x))
        return log_front + mp.log(area), False
    if x > MOST_TERMS:
        area = from_here(lambda s: -a * s - x * mp.expm1(-s), falling_length(a - x, x))
        return log_front + mp.log(area), True
    total = term = mp.mpf(1)
    n = 0
    while term > total * mp.mpf(10) ** -(mp.mp.dps + 5):
        n += 1
        term *= x / (a + n)
        total += term
    return log_front - mp.log(a) + mp.log(total), True


def beta_tail(a, b, x, y=None):
    """(log of a tail, whether it is P(X <= x)) of the beta law for 0 < x < 1, y = 1 - x."""
    y = 1 - x if y is None else y
    if x > PAST * y:
        log_tail, is_lower = beta_tail(b, a, y, x)
        return log_tail, not is_lower
    log_y = mp.log1p(-x)
    log_front = a * mp.log(x) + b * log_y - (mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b))
    gap = a * y - b * x  # (a + b) (mean - x)
    if b * x > PAST * a * y and b * x > 30:
        area = from_here(
            lambda s: a * s - (a + b) * mp.log1p(x * mp.expm1(s)),
            falling_length(-gap, (a + b) * x * y),
        )
        return log_front + mp.log(area), False
    if (a + b) * x > MOST_TERMS:
        area = from_here(
            lambda s: -a * s - (a + b) * mp.log1p(x * mp.expm1(-s)),
            falling_length(gap, (a + b) * x * y),
        )
        return log_front + mp.log(area), True
    total = term = mp.mpf(1)
    n = 0
    while term > total * mp.mpf(10) ** -(mp.mp.dps + 5):
        term *= (a + b + n) / (a + 1 + n) * x
        n += 1
        total += term
    return log_front - mp.log(a) + mp.log(total), True


def log_i0e(k):
    """log(I0(k) exp(-k))."""
    if k < 20:
        return mp.log(mp.besseli(0, k)) - k
    area = from_here(lambda s: -2 * k * mp.sin(s / 2) ** 2, mp.sqrt(2 / k), room=mp.pi)
    return mp.log(area / mp.pi)
