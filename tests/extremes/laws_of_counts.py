"""The laws of counts, of classes, of rounded numbers and of vectors; see `laws.py`."""

import mpmath as mp

from tests.extremes.integrals import beta_tail, exp, gamma_tail, log1mexp
from tests.extremes.laws import Law, both, continuous_laws, log_beta, log_ndtr, xlog

__all__ = ["all_laws"]

mpf = mp.mpf
half = mpf(1) / 2
INF = mp.inf
FROM_ZERO = {"discrete": True, "ends": lambda *parameters: (mpf(0), INF)}


def log_sigmoid(x):
    return -mp.log1p(exp(-x)) if x > 0 else x - mp.log1p(exp(x))


def log_add(a, b):
    a, b = max(a, b), min(a, b)
    return a if b == -INF else a + mp.log1p(exp(b - a))


def log_choose(n, k):
    return -log_beta(n - k + 1, k + 1) - mp.log(n + 1)


def times(count, log_p):
    return mpf(0) if count == 0 else count * log_p


def outcome(k, j, log_p, log_q):
    """k log p + j log(1 - p)."""
    return times(k, log_p) + times(j, log_q)


class Odds:
    """A law with a probability, for logits and for probs: a function of log p and log(1 - p)."""

    def __init__(self, form):
        self.logs = {
            "logits": lambda g: (log_sigmoid(g), log_sigmoid(-g)),
            "probs": lambda p: (
                mp.log(p) if p > 0 else -INF, mp.log1p(-p) if p < 1 else -INF
            ),
        }[form]  # fmt: skip
        self.kind = {"logits": "logit", "probs": "unit"}[form]

    def of(self, fn):
        return lambda *columns: fn(*columns[:-1], *self.logs(columns[-1]))

    def kl(self, fn):
        """Of (*p, *q), the probabilities last in each."""

        def split(*columns):
            n = len(columns) // 2
            return fn(*columns[: n - 1], *self.logs(columns[n - 1]),
                      *columns[n:-1], *self.logs(columns[-1]))  # fmt: skip

        return split


def bernoulli_kl(log_p, log_q, log_r, log_s):
    total = mpf(0)
    for mine, other in ((log_p, log_r), (log_q, log_s)):
        if mine > -INF:
            total += exp(mine) * (mine - other)
    return total


def bernoulli_entropy(log_p, log_q):
    return -sum((exp(x) * x for x in (log_p, log_q) if x > -INF), mpf(0))


def poisson_density(k, rate):
    return xlog(k, rate) - rate - mp.loggamma(k + 1)


def poisson_tail(k, rate):
    if rate == 0:
        return -INF, False
    log_tail, is_lower = gamma_tail(k + 1, rate)
    return log_tail, not is_lower


def poisson_kl(a, b):
    return (a * mp.log(a / b) if a > 0 else mpf(0)) - a + b


def binomial_density(k, n, log_p, log_q):
    return log_choose(n, k) + outcome(k, n - k, log_p, log_q)


def count_beta_tail(a, b, log_p, log_q):
    """I_q(a, b)."""
    if log_p == -INF or log_q == -INF:  # all or nothing
        return -INF, log_q == -INF
    return beta_tail(a, b, exp(log_q), exp(log_p))


def negative_binomial_density(k, n, log_p, log_q):
    # Gamma(n + k) / (Gamma(n) k!)
    front = mp.loggamma(n + k) - mp.loggamma(n) - mp.loggamma(k + 1)
    return front + outcome(k, n, log_p, log_q)


def zero_inflated_density(k, gate, rate):
    kept = log_sigmoid(-gate) + poisson_density(k, rate)
    return log_add(log_sigmoid(gate), kept) if k < half else kept


def zero_inflated_tail(k, gate, rate):
    return log_sigmoid(-gate) + both(poisson_tail(k, rate))[1], False


def zero_inflated_variance(gate, rate):
    keep, extra = exp(log_sigmoid(-gate)), exp(log_sigmoid(gate))
    return keep * rate + keep * extra * rate**2


def quantized(law, low=-INF, high=INF):
    """The law of ceil(X), kept within low and high; columns as those of `law`."""

    def logs(k, *parameters):
        if k < low:
            return -INF, mpf(0)
        return (mpf(0), -INF) if k >= high else both(law.tail(k, *parameters))

    def density(k, *parameters):
        lower, upper = logs(k, *parameters)
        lower_before, upper_before = logs(k - 1, *parameters)
        left = lower < upper_before
        large, small = (lower, lower_before) if left else (upper_before, upper)
        return large if small == -INF else large + log1mexp(small - large)

    facts = {}
    if low > -INF:
        ks = range(int(low), int(high) + 1)

        def moment(power, parameters, about=0):
            with mp.workdps(80):  # the terms are of one size
                return mp.fsum((k - about) ** power * exp(density(mpf(k), *parameters)) for k in ks)

        facts = {"mean": lambda *p: moment(1, p), "variance": lambda *p: moment(2, p, moment(1, p))}
    return Law(
        law.columns, law.kinds, density, lambda k, *p: law.tail(k, *p), unit=law.unit, sums=True,
        discrete=True, ends=lambda *p: (mpf(low), mpf(high)), facts=facts,
    )  # fmt: skip


def log_sum(terms):
    top = max(terms)
    return top + mp.log(mp.fsum(exp(t - top) for t in terms))


def class_logs(columns, form):
    if form == "logits":
        total = log_sum(columns)
        return [c - total for c in columns]
    total = mp.fsum(columns)
    return [mp.log(c / total) if c > 0 else -INF for c in columns]


def classes(form):
    """Three classes."""

    def logs(columns):
        return class_logs(columns, form)

    def tail(k, *columns):
        k, ps = int(k), logs(columns)
        lower, upper = ps[: k + 1], ps[k + 1 :]
        lower = log_sum(lower) if max(lower) > -INF else -INF
        upper = log_sum(upper) if max(upper) > -INF else -INF
        return (lower, True) if lower < upper else (upper, False)

    def entropy(*columns):
        return -mp.fsum(exp(p) * p for p in logs(columns) if p > -INF)

    def kl(*columns):
        pairs = zip(logs(columns[:3]), logs(columns[3:]), strict=True)
        return mp.fsum(exp(p) * (p - q) for p, q in pairs if p > -INF)

    kind = ("logit" if form == "logits" else "log",) * 3
    names = tuple(f"{form}[{i}]" for i in range(3))
    one = Law(
        ("value", *names), ("fixed", *kind), lambda k, *c: logs(c)[int(k)], tail, discrete=True,
        ends=lambda *p: (mpf(0), mpf(2)), facts={"entropy": entropy}, kl=kl, sums=True,
    )  # fmt: skip

    def hot(*columns):
        return mp.fsum(p for x, p in zip(columns[:3], logs(columns[3:]), strict=True) if x == 1)

    def counts(*columns):
        x, n, ps = columns[:3], columns[3], logs(columns[4:])
        front = mp.loggamma(n + 1) - mp.fsum(mp.loggamma(k + 1) for k in x)
        return front + mp.fsum(times(k, p) for k, p in zip(x, ps, strict=True))

    values = tuple(f"value[{i}]" for i in range(3))
    vector = {"discrete": True, "values": 3, "sums": True}
    return {
        f"Categorical({form})": one,
        f"OneHotCategorical({form})": Law(
            (*values, *names), ("fixed",) * 3 + kind, hot, facts={"entropy": entropy}, kl=kl,
            **vector,
        ),
        f"Multinomial({form})": Law(
            (*values, "total_count", *names), ("real",) * 4 + kind, counts,
            **vector,
        ),
    }  # fmt: skip


def dirichlet_density(*columns):
    x, a = columns[:3], columns[3:]
    front = mp.loggamma(mp.fsum(a)) - mp.fsum(map(mp.loggamma, a))
    # The last entry is what the others leave: the law lives on the simplex.
    return front + mp.fsum(xlog(c - 1, v) for c, v in zip(a, x, strict=True))


def dirichlet_entropy(*a):
    total = mp.fsum(a)
    log_b = mp.fsum(map(mp.loggamma, a)) - mp.loggamma(total)
    return log_b + (total - 3) * mp.digamma(total) - mp.fsum((c - 1) * mp.digamma(c) for c in a)


def dirichlet_kl(*columns):
    a, b = columns[:3], columns[3:]
    s, t = mp.fsum(a), mp.fsum(b)
    front = mp.loggamma(s) - mp.loggamma(t)
    front += mp.fsum(mp.loggamma(d) - mp.loggamma(c) for c, d in zip(a, b, strict=True))
    return front + mp.fsum(
        (c - d) * (mp.digamma(c) - mp.digamma(s)) for c, d in zip(a, b, strict=True)
    )


def normal_pair(x, m, cov):
    """log N(x; m, cov) of two numbers; cov = (c00, c01, c11, its determinant)."""
    u, v = x[0] - m[0], x[1] - m[1]
    a, b, c, det = cov
    return (
        -(c * u * u - 2 * b * u * v + a * v * v) / (2 * det) - mp.log(2 * mp.pi) - mp.log(det) / 2
    )


def tril_covariance(a, b, c):
    return a * a, a * b, b * b + c * c, (a * c) ** 2


def factor_covariance(f, g, d, e):
    return f * f + d, f * g, g * g + e, f * f * e + g * g * d + d * e


def pair_law(covariance, names, kinds):
    def entropy(*p):
        return 1 + mp.log(2 * mp.pi) + mp.log(covariance(*p[2:])[3]) / 2

    def kl(*p):
        p, q = p[: len(p) // 2], p[len(p) // 2 :]
        (a, b, c, det), (d, e, f, other) = covariance(*p[2:]), covariance(*q[2:])
        u, v = p[0] - q[0], p[1] - q[1]
        trace = (f * a - 2 * e * b + d * c) / other
        return (trace + (f * u * u - 2 * e * u * v + d * v * v) / other - 2
                + mp.log(other / det)) / 2  # fmt: skip

    return Law(
        ("value[0]", "value[1]", "loc[0]", "loc[1]", *names), ("real",) * 4 + kinds,
        lambda *c: normal_pair(c[:2], c[2:4], covariance(*c[4:])), values=2,
        unit=lambda *c: mp.sqrt(covariance(*c[4:])[0]), facts={"entropy": entropy}, kl=kl,
    )  # fmt: skip


def mixture_parts(x, columns):
    g, h, m, n, s, t = columns
    total = log_add(g, h)
    return [(g - total, (x - m) / s, s), (h - total, (x - n) / t, t)]


def mixture_density(x, *columns):
    front = mp.log(2 * mp.pi) / 2
    return log_sum([w - z * z / 2 - mp.log(s) - front for w, z, s in mixture_parts(x, columns)])


def mixture_tail(x, *columns):
    parts = mixture_parts(x, columns)
    lower = log_sum([w + log_ndtr(z) for w, z, s in parts])
    upper = log_sum([w + log_ndtr(-z) for w, z, s in parts])
    return (lower, True) if lower < upper else (upper, False)


def mixture_moments(g, h, m, n, s, t):
    total = log_add(g, h)
    w, v = exp(g - total), exp(h - total)
    mean = w * m + v * n
    return mean, w * s * s + v * t * t + w * v * (m - n) ** 2


def all_laws():
    """Name -> law."""
    laws = continuous_laws()
    laws["Poisson"] = Law(
        ("value", "rate"), ("real", "log"), poisson_density, poisson_tail, kl=poisson_kl,
        facts={"mean": lambda r: r, "variance": lambda r: r}, **FROM_ZERO,
    )  # fmt: skip
    laws["ZeroInflated(Poisson)"] = Law(
        ("value", "logits", "rate"), ("real", "logit", "log"), zero_inflated_density,
        zero_inflated_tail, sums=True,
        facts={"mean": lambda g, r: exp(log_sigmoid(-g)) * r, "variance": zero_inflated_variance},
        **FROM_ZERO,
    )  # fmt: skip
    for form in ("logits", "probs"):
        odds = Odds(form)
        laws[f"Bernoulli({form})"] = Law(
            ("value", form), ("fixed", odds.kind),
            odds.of(lambda k, p, q: p if k == 1 else q),
            odds.of(lambda k, p, q: (q, True) if q < p else (p, False)),
            discrete=True, ends=lambda g: (mpf(0), mpf(1)), kl=odds.kl(bernoulli_kl),
            facts={"mean": odds.of(lambda p, q: exp(p)), "entropy": odds.of(bernoulli_entropy),
                   "variance": odds.of(lambda p, q: exp(p) * exp(q))},
        )  # fmt: skip
        laws[f"Geometric({form})"] = Law(
            ("value", form), ("real", odds.kind),
            odds.of(lambda k, p, q: outcome(mpf(1), k, p, q)),
            odds.of(lambda k, p, q: ((k + 1) * q, False)), 
            kl=odds.kl(lambda p, q, r, s: bernoulli_kl(p, q, r, s) / exp(p)),
            facts={"mean": odds.of(lambda p, q: exp(q - p)),
                   "variance": odds.of(lambda p, q: exp(q - 2 * p)),
                   "entropy": odds.of(lambda p, q: bernoulli_entropy(p, q) / exp(p))}, **FROM_ZERO,
        )  # fmt: skip
        laws[f"Binomial({form})"] = Law(
            ("value", "total_count", form), ("real", "real", odds.kind),
            odds.of(binomial_density),
            odds.of(lambda k, n, p, q: count_beta_tail(n - k, k + 1, p, q)),
            discrete=True, ends=lambda n, g: (mpf(0), n), 
            facts={"mean": odds.of(lambda n, p, q: n * exp(p)),
                   "variance": odds.of(lambda n, p, q: n * exp(p) * exp(q))},
            kl=odds.kl(lambda n, p, q, m, r, s: n * bernoulli_kl(p, q, r, s)),
        )  # fmt: skip
        laws[f"NegativeBinomial({form})"] = Law(
            ("value", "total_count", form), ("real", "log", odds.kind),
            odds.of(negative_binomial_density),
            odds.of(lambda k, n, p, q: count_beta_tail(n, k + 1, p, q)), 
            facts={"mean": odds.of(lambda n, p, q: n * exp(p - q)),
                   "variance": odds.of(lambda n, p, q: n * exp(p - 2 * q))},
            kl=odds.kl(lambda n, p, q, m, r, s: n * bernoulli_kl(p, q, r, s) / exp(q)),
            **FROM_ZERO,
        )  # fmt: skip
        laws.update(classes(form))
    for name in ("Normal", "Logistic", "Gumbel"):
        laws[f"Quantized({name})"] = quantized(laws[name])
    laws["Quantized(Logistic, 0, 255)"] = quantized(laws["Logistic"], 0, 255)
    laws["Dirichlet"] = Law(
        tuple(f"value[{i}]" for i in range(3)) + tuple(f"concentration[{i}]" for i in range(3)),
        ("unit",) * 3 + ("log",) * 3, dirichlet_density, values=3, kl=dirichlet_kl,
        facts={"entropy": dirichlet_entropy},
    )  # fmt: skip
    laws["MultivariateNormal"] = pair_law(
        tril_covariance, ("scale_tril[0,0]", "scale_tril[1,0]", "scale_tril[1,1]"),
        ("log", "real", "log"),
    )  # fmt: skip
    laws["LowRankMultivariateNormal"] = pair_law(
        factor_covariance, ("cov_factor[0]", "cov_factor[1]", "cov_diag[0]", "cov_diag[1]"),
        ("real", "real", "log", "log"),
    )  # fmt: skip
    laws["MixtureSameFamily(Normal)"] = Law(
        ("value", "logits[0]", "logits[1]", "loc[0]", "loc[1]", "scale[0]", "scale[1]"),
        ("real", "logit", "logit", "real", "real", "log", "log"), mixture_density, mixture_tail,
        facts={"mean": lambda *p: mixture_moments(*p)[0],
               "variance": lambda *p: mixture_moments(*p)[1]},
        sums=True, unit=lambda x, g, h, m, n, s, t: min(max(s, abs(x - m)), max(t, abs(x - n))),
    )  # fmt: skip
    return laws
