"""One row for every family over vectors: random parameters, and the truth by mpmath.

Arrays of 40-digit numbers go through the textbook formulas, covariances by elimination. As in
`families`, values and parameters are float32 numbers and nothing is shared with the package.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np

from jaxprob import distributions as jd

mp.mp.dps = 40
K = 3

log = np.frompyfunc(mp.log, 1, 1)
exp = np.frompyfunc(mp.exp, 1, 1)
loggamma = np.frompyfunc(mp.loggamma, 1, 1)
digamma = np.frompyfunc(mp.digamma, 1, 1)


class VectorFamily(NamedTuple):
    """A class over vectors, and what is true of it.

    make: parameters -> distribution. draw: rng -> (value, *parameters), one random case.
    log_prob: (value, *parameters) -> truth. facts: parameters -> {"mean": ..., ...}.
    constant: indices of the arguments without a slope (0 is the value).
    """

    make: Callable[..., Any]
    draw: Callable[[np.random.Generator], tuple]
    log_prob: Callable[..., Any]
    facts: Callable[..., dict[str, Any]]
    constant: tuple[int, ...] = ()


def log_softmax(logits):
    return logits - log(exp(logits - max(logits)).sum()) - max(logits)


# Normal distributions


def log_normal(x, loc, covariance):
    gap, matrix = mp.matrix(list(x - loc)), mp.matrix(covariance.tolist())
    square = (gap.T * mp.lu_solve(matrix, gap))[0]
    return -(square + mp.log(mp.det(matrix)) + len(x) * mp.log(2 * mp.pi)) / 2


def of_covariance(loc, covariance):
    matrix = mp.matrix(covariance.tolist())
    entropy = (mp.log(mp.det(matrix)) + len(loc) * mp.log(2 * mp.pi * mp.e)) / 2
    return {"mean": loc, "variance": np.diag(covariance), "covariance": covariance,
            "entropy": entropy}  # fmt: skip


def draw_full(rng):
    scale = 10.0 ** rng.uniform(-2, 2, K)
    tril = np.tril(rng.normal(size=(K, K)), -1) + np.diag(rng.uniform(0.3, 2.0, K))
    loc, tril = 10 * rng.normal(size=K), scale[:, None] * tril
    return loc + tril @ rng.normal(size=K), loc, tril


def full(scale_tril):
    lower = np.tril(scale_tril)
    return lower @ lower.T


def draw_diagonal(rng):
    loc, scale = 10 * rng.normal(size=K), 10.0 ** rng.uniform(-2, 2, K)
    return loc + scale * rng.normal(size=K), loc, scale


def draw_low_rank(rng):
    loc, factor = 10 * rng.normal(size=K), rng.normal(size=(K, 2))
    diagonal = 10.0 ** rng.uniform(-1, 1, K)
    return (loc + factor @ rng.normal(size=2) + diagonal**0.5 * rng.normal(size=K), loc, factor,
            diagonal)  # fmt: skip


def low_rank(factor, diagonal):
    return factor @ factor.T + np.diag(diagonal)


# The simplex


def on_simplex(value):
    """Multiples of 2^-22 that sum to one: float32 numbers, on the simplex to the last bit."""
    parts = np.maximum(np.round(value * 2**22), 1.0)
    parts[parts.argmax()] += 2**22 - parts.sum()
    return parts / 2**22


def draw_simplex(rng):
    concentration = 10.0 ** rng.uniform(-1, 3, K)
    return on_simplex(rng.dirichlet(concentration)), concentration


def of_dirichlet(a):
    total = a.sum()
    mean = a / total
    covariance = (np.diag(mean) - np.outer(mean, mean)) / (total + 1)
    entropy = (
        loggamma(a).sum() - mp.loggamma(total) + (total - len(a)) * mp.digamma(total)
        - ((a - 1) * digamma(a)).sum()
    )  # fmt: skip
    return {"mean": mean, "variance": np.diag(covariance), "covariance": covariance,
            "entropy": entropy}  # fmt: skip


def draw_relaxed(rng):
    logits, temperature = 3 * rng.normal(size=K), 10.0 ** rng.uniform(-0.7, 0.7)
    scores = (logits + rng.gumbel(size=K)) / temperature
    value = np.exp(scores - scores.max())
    return on_simplex(value / value.sum()), temperature, logits


def log_relaxed(x, t, logits):
    scores = logits - t * log(x)
    top = max(scores)
    return (
        mp.loggamma(len(x)) + (len(x) - 1) * mp.log(t) + (scores - log(x)).sum()
        - len(x) * (log(exp(scores - top).sum()) + top)
    )  # fmt: skip


# Counts and classes


def draw_multinomial(rng):
    n, logits = float(rng.integers(1, 1000)), 2 * rng.normal(size=K)
    probs = np.exp(logits - np.logaddexp.reduce(logits))
    return rng.multinomial(int(n), probs).astype(float), n, logits


def of_multinomial(n, logits):
    p = exp(log_softmax(logits))
    covariance = n * (np.diag(p) - np.outer(p, p))
    return {"mean": n * p, "variance": np.diag(covariance), "covariance": covariance}


def draw_class(rng):
    logits = 4 * rng.normal(size=K)
    return float(rng.integers(K)), logits


def draw_one_hot(rng):
    value, logits = draw_class(rng)
    return np.eye(K)[int(value)], logits


def class_entropy(logits):
    return -(exp(log_softmax(logits)) * log_softmax(logits)).sum()


def of_one_hot(logits):
    p = exp(log_softmax(logits))
    return {"mean": p, "variance": p * (1 - p), "entropy": class_entropy(logits)}


def draw_independent(rng):
    return rng.gumbel(size=K), rng.normal(size=K), 10.0 ** rng.uniform(-1, 1, K)


def log_gumbel(x, loc, scale):
    z = (x - loc) / scale
    return -(z + exp(-z) + log(scale)).sum()


def of_gumbel(loc, scale):
    return {"mean": loc + scale * mp.euler, "variance": (scale * mp.pi) ** 2 / 6,
            "entropy": (log(scale) + mp.euler + 1).sum()}  # fmt: skip


VECTOR_FAMILIES = {
    "MultivariateNormal": VectorFamily(
        jd.MultivariateNormal,
        draw_full,
        lambda x, loc, tril: log_normal(x, loc, full(tril)),
        lambda loc, tril: of_covariance(loc, full(tril)),
    ),
    "MultivariateNormalDiag": VectorFamily(
        jd.MultivariateNormalDiag,
        draw_diagonal,
        lambda x, loc, scale: log_normal(x, loc, np.diag(scale**2)),
        lambda loc, scale: of_covariance(loc, np.diag(scale**2)),
    ),
    "LowRankMultivariateNormal": VectorFamily(
        jd.LowRankMultivariateNormal,
        draw_low_rank,
        lambda x, loc, factor, d: log_normal(x, loc, low_rank(factor, d)),
        lambda loc, factor, d: of_covariance(loc, low_rank(factor, d)),
    ),
    "Dirichlet": VectorFamily(
        jd.Dirichlet,
        draw_simplex,
        lambda x, a: mp.loggamma(a.sum()) - loggamma(a).sum() + ((a - 1) * log(x)).sum(),
        of_dirichlet,
    ),
    "RelaxedOneHotCategorical": VectorFamily(
        lambda t, logits: jd.RelaxedOneHotCategorical(t, logits=logits),
        draw_relaxed,
        log_relaxed,
        lambda t, logits: {},
    ),
    "Multinomial": VectorFamily(
        lambda n, logits: jd.Multinomial(n, logits=logits),
        draw_multinomial,
        lambda x, n, logits: (
            mp.loggamma(n + 1) - loggamma(x + 1).sum() + (x * log_softmax(logits)).sum()
        ),
        of_multinomial,
        constant=(0, 1),
    ),
    "Categorical": VectorFamily(
        lambda logits: jd.Categorical(logits=logits),
        draw_class,
        lambda x, logits: log_softmax(logits)[int(x)],
        lambda logits: {"entropy": class_entropy(logits)},
        constant=(0,),
    ),
    "OneHotCategorical": VectorFamily(
        lambda logits: jd.OneHotCategorical(logits=logits),
        draw_one_hot,
        lambda x, logits: (x * log_softmax(logits)).sum(),
        of_one_hot,
        constant=(0,),
    ),
    "Independent": VectorFamily(
        lambda loc, scale: jd.Independent(jd.Gumbel(loc, scale), 1),
        draw_independent,
        log_gumbel,
        of_gumbel,
    ),
}
