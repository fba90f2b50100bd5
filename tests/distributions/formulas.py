"""Textbook densities, distribution functions and moments, with the 40 digits of mpmath."""

import mpmath as mp

mp.mp.dps = 40


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def log_binomial(n, k):
    return mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)


def xlogy(x, y):
    return mp.mpf(0) if x == 0 else x * mp.log(y)


def gamma_lower(a, x):
    """Regularised lower incomplete gamma function, by its series or by its complement."""
    if x <= 0:
        return mp.mpf(0)
    if x < a + 1:
        return mp.exp(a * mp.log(x) - x - mp.loggamma(a + 1)) * mp.hyp1f1(1, a + 1, x)
    return 1 - gamma_upper(a, x)


def gamma_upper(a, x):
    """Regularised upper incomplete gamma function, by Lentz's continued fraction."""
    if x < a + 1:
        return 1 - gamma_lower(a, x)
    b = x + 1 - a
    c, d = mp.mpf(10) ** 100, 1 / b
    h = d
    for i in range(1, 100_000):
        term = -i * (i - a)
        b += 2
        d = 1 / (term * d + b)
        c = b + term / c
        h *= c * d
        if abs(c * d - 1) < mp.mpf(10) ** -35:
            break
    return mp.exp(a * mp.log(x) - x - mp.loggamma(a)) * h


def beta_lower(a, b, x):
    """Regularised incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return mp.mpf(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_lower(b, a, 1 - x)
    front = mp.exp(a * mp.log(x) + b * mp.log1p(-x) - mp.log(a) - log_beta(a, b))
    c, d = mp.mpf(1), 1 / (1 - (a + b) * x / (a + 1))
    h = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1 / (1 + even * d), 1 + even / c
        h *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1 / (1 + odd * d), 1 + odd / c
        h *= d * c
        if abs(d * c - 1) < mp.mpf(10) ** -35:
            break
    return front * h


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def normal_log_prob(x, loc, scale):
    return -(((x - loc) / scale) ** 2) / 2 - mp.log(scale) - mp.log(2 * mp.pi) / 2


def normal_cdf(x, loc, scale):
    return mp.erfc((loc - x) / (scale * mp.sqrt(2))) / 2


def student_log_prob(x, df, loc, scale):
    z = (x - loc) / scale
    constant = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(df * mp.pi) / 2
    return constant - mp.log(scale) - (df + 1) / 2 * mp.log1p(z**2 / df)


def student_cdf(x, df, loc, scale):
    z = (x - loc) / scale
    tail = beta_lower(df / 2, mp.mpf(1) / 2, df / (df + z**2)) / 2
    return tail if z < 0 else 1 - tail


def student_facts(df, loc, scale):
    half = mp.mpf(1) / 2
    digammas = mp.digamma((df + 1) / 2) - mp.digamma(df / 2)
    entropy = (df + 1) / 2 * digammas + mp.log(df) / 2 + log_beta(df / 2, half) + mp.log(scale)
    infinite = mp.inf if df > 1 else mp.nan
    return {
        "mean": loc if df > 1 else mp.nan,
        "variance": scale**2 * df / (df - 2) if df > 2 else infinite,
        "entropy": entropy,
    }


def logistic_log_prob(x, m, s):
    z = (x - m) / s
    return -z - mp.log(s) - 2 * mp.log1p(mp.exp(-z))


def gamma_log_prob(x, a, b):
    return a * mp.log(b) - mp.loggamma(a) + (a - 1) * mp.log(x) - b * x


def inverse_gamma_log_prob(x, a, b):
    return a * mp.log(b) - mp.loggamma(a) - (a + 1) * mp.log(x) - b / x


def weibull_facts(s, k):
    first, second = mp.gamma(1 + 1 / k), mp.gamma(1 + 2 / k)
    return {
        "mean": s * first,
        "variance": s**2 * (second - first**2),
        "entropy": mp.euler * (1 - 1 / k) + mp.log(s / k) + 1,
    }


def beta_facts(a, b):
    n = a + b
    parts = (a - 1) * mp.digamma(a) + (b - 1) * mp.digamma(b) - (n - 2) * mp.digamma(n)
    return {
        "mean": a / n,
        "variance": a * b / (n**2 * (n + 1)),
        "entropy": log_beta(a, b) - parts,
    }


def von_mises_log_prob(x, loc, k):
    return k * mp.cos(x - loc) - mp.log(2 * mp.pi * mp.besseli(0, k))


def von_mises_cdf(x, loc, k):
    low, width = -mp.pi, 1 / mp.sqrt(1 + k)
    ends = sorted({low, *(mp.mpf(c) * width for c in (-20, -6, -2, 0, 2, 6, 20))} | {x - loc})
    ends = [e for e in ends if low <= e <= x - loc]
    constant = von_mises_log_prob(0, 0, k) - k  # a Bessel function, the same at every node
    return mp.quad(lambda t: mp.exp(k * mp.cos(t) + constant), ends)


def von_mises_facts(loc, k):
    ratio = mp.besseli(1, k) / mp.besseli(0, k)
    entropy = mp.log(2 * mp.pi * mp.besseli(0, k)) - k * ratio
    return {"mean": loc, "variance": 1 - ratio, "entropy": entropy}


def poisson_log_prob(k, rate):
    return xlogy(k, rate) - rate - mp.loggamma(k + 1)


def negative_binomial_log_prob(k, n, p):
    coefficient = mp.loggamma(n + k) - mp.loggamma(n) - mp.loggamma(k + 1)
    return coefficient + n * mp.log1p(-p) + xlogy(k, p)


def binomial_log_prob(k, n, p):
    return log_binomial(n, k) + xlogy(k, p) + xlogy(n - k, 1 - p)


def bernoulli_entropy(p):
    return -xlogy(p, p) - xlogy(1 - p, 1 - p)


def relaxed_log_prob(x, t, log_odds):
    z = log_odds - t * (mp.log(x) - mp.log1p(-x))
    return mp.log(t) - 2 * mp.log1p(mp.exp(-z)) - z - mp.log(x) - mp.log1p(-x)


def relaxed_cdf(x, t, log_odds):
    return sigmoid(t * (mp.log(x) - mp.log1p(-x)) - log_odds)


def with_logits(formula, at):
    """The same formula with a logit in place of the probability in position `at`."""

    def replaced(*arguments):
        return formula(*arguments[:at], sigmoid(arguments[at]), *arguments[at + 1 :])

    return replaced


def zero_inflated_log_prob(k, rate, logits):
    extra = sigmoid(logits)
    kept = (1 - extra) * mp.exp(poisson_log_prob(k, rate))
    return mp.log(kept + (extra if k == 0 else 0))


def quantized(cdf):
    """Probability of an integer between -4 and 6 under a continuous cdf."""

    def log_prob(k, *parameters):
        upper = 1 if k >= 6 else cdf(k, *parameters)
        lower = 0 if k <= -4 else cdf(k - 1, *parameters)
        return mp.log(upper - lower)

    return log_prob


MIXTURE_WEIGHTS = (0.25, 0.5, 0.25)


def mixture_log_prob(x, a, b, c, scale):
    parts = zip(MIXTURE_WEIGHTS, (a, b, c), strict=True)
    return mp.log(sum(w * mp.exp(normal_log_prob(x, loc, scale)) for w, loc in parts))


def mixture_facts(a, b, c, scale):
    parts = list(zip(MIXTURE_WEIGHTS, (a, b, c), strict=True))
    mean = sum(w * loc for w, loc in parts)
    return {"mean": mean, "variance": scale**2 + sum(w * (loc - mean) ** 2 for w, loc in parts)}
