"""One row for every family over numbers: random parameters, and the truth by mpmath.

The formulas are the textbook ones, evaluated with 40 digits, so that nothing in them cancels. They
share no code with the package. Values and parameters are float32 numbers, so that one truth serves
both dtypes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np

from jaxprob import distributions as jd
from tests.distributions.formulas import (
    MIXTURE_WEIGHTS,
    bernoulli_entropy,
    beta_facts,
    beta_lower,
    binomial_log_prob,
    gamma_log_prob,
    gamma_lower,
    gamma_upper,
    inverse_gamma_log_prob,
    log_beta,
    logistic_log_prob,
    mixture_facts,
    mixture_log_prob,
    negative_binomial_log_prob,
    normal_cdf,
    normal_log_prob,
    poisson_log_prob,
    quantized,
    relaxed_cdf,
    relaxed_log_prob,
    sigmoid,
    student_cdf,
    student_facts,
    student_log_prob,
    von_mises_cdf,
    von_mises_facts,
    von_mises_log_prob,
    weibull_facts,
    with_logits,
    zero_inflated_log_prob,
)


class Family(NamedTuple):
    """A class, and what is true of it.

    make: parameters -> distribution. draw: rng -> (value, *parameters), one random case.
    log_prob, cdf: (value, *parameters) -> truth. facts: parameters -> {"mean": ..., ...}.
    """

    make: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple]
    log_prob: Callable[..., Any]
    cdf: Callable[..., Any] | None = None
    facts: Callable[..., dict[str, Any]] = lambda *parameters: {}
    discrete: bool = False


def power(rng, low, high):
    """10^U(low, high)."""
    return 10.0 ** rng.uniform(low, high)


def located(standard, log_scale=2.0):
    """A case of a location-scale family, from a draw of the standard one."""

    def draw(rng):
        loc, scale = 10 * rng.normal(), power(rng, -log_scale, log_scale)
        return loc + scale * standard(rng), loc, scale

    return draw


def case_with_logits(draw, at):
    def replaced(rng):
        case = draw(rng)
        p = case[at]
        return (*case[:at], np.log(p) - np.log1p(-p), *case[at + 1 :])

    return replaced


def make_mixture(a, b, c, scale):
    import jax.numpy as jnp

    components = jd.Normal(jnp.stack([a, b, c], -1), scale[..., None])
    logits = jnp.log(jnp.asarray(MIXTURE_WEIGHTS, a.dtype))
    weights = jd.Categorical(logits=jnp.broadcast_to(logits, components.batch_shape))
    return jd.MixtureSameFamily(weights, components)


def draw_gamma(rng):
    a, b = power(rng, -1.3, 3), power(rng, -2, 2)
    return max(rng.gamma(a), 1e-8) / b, a, b


def draw_inverse_gamma(rng):
    x, a, b = draw_gamma(rng)
    return b / (x * b), a, b


def draw_beta(rng):
    a, b = power(rng, -0.7, 3), power(rng, -0.7, 3)
    return np.clip(rng.beta(a, b), 1e-5, 1 - 1e-5), a, b


def draw_student(rng):
    df, loc, scale = power(rng, -0.5, 4), 10 * rng.normal(), power(rng, -2, 2)
    return loc + scale * np.clip(rng.standard_t(df), -1e6, 1e6), df, loc, scale


def draw_von_mises(rng):
    loc, k = rng.uniform(-2, 2), power(rng, -2, 3)
    return loc + rng.vonmises(0, k), loc, k


def draw_probability(rng):
    return np.clip(rng.beta(0.7, 0.7), 1e-4, 1 - 1e-4)


def draw_binomial(rng):
    n, p = float(rng.integers(1, 2000)), draw_probability(rng)
    return float(rng.binomial(int(n), p)), n, p


def draw_negative_binomial(rng):
    n, p = power(rng, -1, 3), draw_probability(rng)
    return float(rng.negative_binomial(n, 1 - p)), n, p


def draw_relaxed(rng):
    t, p = power(rng, -0.6, 0.6), draw_probability(rng)
    x = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + rng.logistic()) / t))
    return np.clip(x, 1e-5, 1 - 1e-5), t, p


def draw_mixture(rng):
    locs, scale = rng.normal(size=3) * 4, power(rng, -0.5, 0.5)
    return rng.choice(locs) + scale * rng.normal(), *locs, scale


def logit(p):
    return mp.log(p) - mp.log1p(-p)


FAMILIES = {
    "Normal": Family(
        jd.Normal,
        located(lambda rng: rng.normal()),
        normal_log_prob,
        normal_cdf,
        lambda m, s: {
            "mean": m,
            "variance": s**2,
            "entropy": mp.log(2 * mp.pi * mp.e) / 2 + mp.log(s),
        },
    ),
    "StudentT": Family(jd.StudentT, draw_student, student_log_prob, student_cdf, student_facts),
    "Laplace": Family(
        jd.Laplace,
        located(lambda rng: rng.laplace()),
        lambda x, m, s: -abs(x - m) / s - mp.log(2 * s),
        lambda x, m, s: mp.exp((x - m) / s) / 2 if x < m else 1 - mp.exp((m - x) / s) / 2,
        lambda m, s: {"mean": m, "variance": 2 * s**2, "entropy": 1 + mp.log(2 * s)},
    ),
    "Cauchy": Family(
        jd.Cauchy,
        located(lambda rng: np.clip(rng.standard_cauchy(), -1e6, 1e6)),
        lambda x, m, s: -mp.log(mp.pi * s * (1 + ((x - m) / s) ** 2)),
        lambda x, m, s: (
            mp.atan(s / (m - x)) / mp.pi if x < m else mp.atan((x - m) / s) / mp.pi + mp.mpf(1) / 2
        ),
        lambda m, s: {"mean": mp.nan, "variance": mp.inf, "entropy": mp.log(4 * mp.pi * s)},
    ),
    "Logistic": Family(
        jd.Logistic,
        located(lambda rng: rng.logistic()),
        logistic_log_prob,
        lambda x, m, s: sigmoid((x - m) / s),
        lambda m, s: {"mean": m, "variance": (mp.pi * s) ** 2 / 3, "entropy": 2 + mp.log(s)},
    ),
    "Gumbel": Family(
        jd.Gumbel,
        located(lambda rng: rng.gumbel()),
        lambda x, m, s: -(x - m) / s - mp.exp(-(x - m) / s) - mp.log(s),
        lambda x, m, s: mp.exp(-mp.exp(-(x - m) / s)),
        lambda m, s: {
            "mean": m + mp.euler * s,
            "variance": (mp.pi * s) ** 2 / 6,
            "entropy": 1 + mp.euler + mp.log(s),
        },
    ),
    "LogNormal": Family(
        jd.LogNormal,
        lambda rng: (lambda m, s: (np.exp(m + s * rng.normal()), m, s))(
            2 * rng.normal(), power(rng, -1.5, 0.5)
        ),
        lambda x, m, s: normal_log_prob(mp.log(x), m, s) - mp.log(x),
        lambda x, m, s: normal_cdf(mp.log(x), m, s),
        lambda m, s: {
            "mean": mp.exp(m + s**2 / 2),
            "variance": mp.expm1(s**2) * mp.exp(2 * m + s**2),
            "entropy": m + mp.mpf(1) / 2 + mp.log(s * mp.sqrt(2 * mp.pi)),
        },
    ),
    "Gamma": Family(
        jd.Gamma,
        draw_gamma,
        gamma_log_prob,
        lambda x, a, b: gamma_lower(a, b * x),
        lambda a, b: {
            "mean": a / b,
            "variance": a / b**2,
            "entropy": a - mp.log(b) + mp.loggamma(a) + (1 - a) * mp.digamma(a),
        },
    ),
    "InverseGamma": Family(
        jd.InverseGamma,
        draw_inverse_gamma,
        inverse_gamma_log_prob,
        lambda x, a, b: gamma_upper(a, b / x),
        lambda a, b: {
            "mean": b / (a - 1) if a > 1 else mp.inf,
            "variance": b**2 / ((a - 1) ** 2 * (a - 2)) if a > 2 else mp.inf,
            "entropy": a + mp.log(b) + mp.loggamma(a) - (1 + a) * mp.digamma(a),
        },
    ),
    "Exponential": Family(
        jd.Exponential,
        lambda rng: (lambda b: (rng.exponential() / b, b))(power(rng, -3, 3)),
        lambda x, b: mp.log(b) - b * x,
        lambda x, b: -mp.expm1(-b * x),
        lambda b: {"mean": 1 / b, "variance": 1 / b**2, "entropy": 1 - mp.log(b)},
    ),
    "HalfNormal": Family(
        jd.HalfNormal,
        lambda rng: (lambda s: (s * abs(rng.normal()), s))(power(rng, -3, 3)),
        lambda x, s: mp.log(2) + normal_log_prob(x, 0, s),
        lambda x, s: mp.erf(x / (s * mp.sqrt(2))),
        lambda s: {
            "mean": s * mp.sqrt(2 / mp.pi),
            "variance": s**2 * (1 - 2 / mp.pi),
            "entropy": mp.log(mp.pi * s**2 / 2) / 2 + mp.mpf(1) / 2,
        },
    ),
    "Weibull": Family(
        jd.Weibull,
        lambda rng: (lambda s, k: (s * rng.weibull(k), s, k))(
            power(rng, -2, 3), power(rng, -0.5, 1.5)
        ),
        lambda x, s, k: mp.log(k / s) + (k - 1) * mp.log(x / s) - (x / s) ** k,
        lambda x, s, k: -mp.expm1(-((x / s) ** k)),
        weibull_facts,
    ),
    "Beta": Family(
        jd.Beta,
        draw_beta,
        lambda x, a, b: (a - 1) * mp.log(x) + (b - 1) * mp.log1p(-x) - log_beta(a, b),
        lambda x, a, b: beta_lower(a, b, x),
        beta_facts,
    ),
    "Uniform": Family(
        jd.Uniform,
        lambda rng: (lambda low, size: (low + size * rng.uniform(0.1, 0.9), low, low + size))(
            10 * rng.normal(), power(rng, -1, 3)
        ),
        lambda x, low, high: -mp.log(high - low),
        lambda x, low, high: (x - low) / (high - low),
        lambda low, high: {
            "mean": (low + high) / 2,
            "variance": (high - low) ** 2 / 12,
            "entropy": mp.log(high - low),
        },
    ),
    "VonMises": Family(
        jd.VonMises, draw_von_mises, von_mises_log_prob, von_mises_cdf, von_mises_facts
    ),
    "RelaxedBernoulli": Family(
        lambda t, p: jd.RelaxedBernoulli(t, probs=p),
        draw_relaxed,
        lambda x, t, p: relaxed_log_prob(x, t, logit(p)),
        lambda x, t, p: relaxed_cdf(x, t, logit(p)),
    ),
    "RelaxedBernoulli of logits": Family(
        lambda t, logits: jd.RelaxedBernoulli(t, logits=logits),
        case_with_logits(draw_relaxed, 2),
        relaxed_log_prob,
        relaxed_cdf,
    ),
    "MixtureSameFamily": Family(
        make_mixture,
        draw_mixture,
        mixture_log_prob,
        lambda x, a, b, c, s: sum(
            w * normal_cdf(x, m, s) for w, m in zip(MIXTURE_WEIGHTS, (a, b, c), strict=True)
        ),
        mixture_facts,
    ),
    "Transformed": Family(
        lambda m, s: jd.Transformed(jd.Logistic(m, s), jd.bijections.Exp()),
        lambda rng: (lambda m, s: (np.exp(m + s * rng.logistic()), m, s))(
            2 * rng.normal(), power(rng, -1, 0)
        ),
        lambda y, m, s: logistic_log_prob(mp.log(y), m, s) - mp.log(y),
        lambda y, m, s: sigmoid((mp.log(y) - m) / s),
    ),
    "Poisson": Family(
        jd.Poisson,
        lambda rng: (lambda rate: (float(rng.poisson(rate)), rate))(power(rng, -2, 3.5)),
        poisson_log_prob,
        lambda k, rate: gamma_upper(k + 1, rate),
        lambda rate: {"mean": rate, "variance": rate},
        discrete=True,
    ),
    "NegativeBinomial": Family(
        lambda n, p: jd.NegativeBinomial(n, probs=p),
        draw_negative_binomial,
        negative_binomial_log_prob,
        lambda k, n, p: beta_lower(n, k + 1, 1 - p),
        lambda n, p: {"mean": n * p / (1 - p), "variance": n * p / (1 - p) ** 2},
        discrete=True,
    ),
    "Binomial": Family(
        lambda n, p: jd.Binomial(n, probs=p),
        draw_binomial,
        binomial_log_prob,
        lambda k, n, p: beta_lower(n - k, k + 1, 1 - p) if k < n else mp.mpf(1),
        lambda n, p: {"mean": n * p, "variance": n * p * (1 - p)},
        discrete=True,
    ),
    "Geometric": Family(
        lambda p: jd.Geometric(probs=p),
        lambda rng: (lambda p: (float(rng.geometric(p) - 1), p))(draw_probability(rng)),
        lambda k, p: k * mp.log1p(-p) + mp.log(p),
        lambda k, p: 1 - (1 - p) ** (k + 1),
        lambda p: {
            "mean": (1 - p) / p,
            "variance": (1 - p) / p**2,
            "entropy": bernoulli_entropy(p) / p,
        },
        discrete=True,
    ),
    "Bernoulli": Family(
        lambda p: jd.Bernoulli(probs=p),
        lambda rng: (lambda p: (float(rng.uniform() < p), p))(draw_probability(rng)),
        lambda k, p: mp.log(p) if k == 1 else mp.log1p(-p),
        lambda k, p: mp.mpf(1) if k == 1 else 1 - p,
        lambda p: {"mean": p, "variance": p * (1 - p), "entropy": bernoulli_entropy(p)},
        discrete=True,
    ),
    "ZeroInflated": Family(
        lambda rate, logits: jd.ZeroInflated(jd.Poisson(rate), logits),
        lambda rng: (lambda r, g: (float(rng.poisson(r)) * (rng.uniform() > 0.3), r, g))(
            power(rng, -1, 2), 2 * rng.normal()
        ),
        zero_inflated_log_prob,
        lambda k, rate, g: sigmoid(g) + (1 - sigmoid(g)) * gamma_upper(k + 1, rate),
        lambda rate, g: {
            "mean": (1 - sigmoid(g)) * rate,
            "variance": (1 - sigmoid(g)) * rate * (1 + sigmoid(g) * rate),
        },
        discrete=True,
    ),
    "Quantized": Family(
        lambda loc, scale: jd.Quantized(jd.Normal(loc, scale), -4, 6),
        lambda rng: (float(rng.integers(-4, 7)), 2 * rng.normal(), power(rng, 0, 1)),
        quantized(normal_cdf),
        lambda k, loc, scale: mp.mpf(1) if k >= 6 else normal_cdf(k, loc, scale),
        discrete=True,
    ),
    "Quantized Logistic": Family(
        lambda loc, scale: jd.Quantized(jd.Logistic(loc, scale), -4, 6),
        lambda rng: (float(rng.integers(-4, 7)), 2 * rng.normal(), power(rng, 0, 1)),
        quantized(lambda x, m, s: sigmoid((x - m) / s)),
        lambda k, m, s: mp.mpf(1) if k >= 6 else sigmoid((k - m) / s),
        discrete=True,
    ),
}
for _name, _at in (("NegativeBinomial", 2), ("Binomial", 2), ("Geometric", 1), ("Bernoulli", 1)):
    _row = FAMILIES[_name]
    _class = getattr(jd, _name)
    FAMILIES[f"{_name} of logits"] = _row._replace(
        make=lambda *p, _class=_class: _class(*p[:-1], logits=p[-1]),
        draw=case_with_logits(_row.draw, _at),
        log_prob=with_logits(_row.log_prob, _at),
        cdf=with_logits(_row.cdf, _at),
        facts=with_logits(_row.facts, _at - 1),
    )
