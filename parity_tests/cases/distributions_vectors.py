"""Rows of the distributions over vectors, and of those made of others, at typical parameters."""

from importlib import import_module

import jax.numpy as jnp
import numpy as np
import torch

import jaxprob.distributions as jd
from parity_tests.cases.distribution_row import (
    DENSITY,
    QUANTILES,
    TAILS,
    distribution_row,
    draws_row,
)

_rng = np.random.default_rng(13)
B, D, K, S, Q = 4, 2, 3, 5, 6
MARGINAL = ("lower", "upper", "median", "marginal cdf")


def _tril() -> np.ndarray:
    raw = np.tril(_rng.normal(size=(B, D, D)), -1)
    return raw + np.eye(D) * _rng.uniform(0.5, 1.5, (B, D, 1))


VECTORS = {
    "loc": _rng.normal(size=(B, D)),
    "scale": _rng.uniform(0.5, 1.5, (B, D)),
    "tril": _tril(),
    "factor": _rng.normal(size=(B, D, 1)),
    "x": _rng.normal(size=(B, D)),
    "other": _rng.normal(size=(B, D)),
    "tril2": _tril(),
}
SIMPLEX = {
    "a": _rng.uniform(0.4, 6.0, (B, K)),
    "other": _rng.uniform(0.4, 6.0, (B, K)),
    "t": np.array([0.4, 0.9, 1.5, 3.0]),
    "x": _rng.dirichlet(2.0 * np.ones(K), B),
    "probs": _rng.dirichlet(2.0 * np.ones(K), B),
}
MIXTURE = {
    "logits": _rng.normal(size=(B, K)),
    "probs": _rng.dirichlet(np.ones(K), B),
    "locs": 2.0 * _rng.normal(size=(B, K)),
    "scales": _rng.uniform(0.3, 1.0, (B, K)),
    "vectors": _rng.normal(size=(B, K, D)),
    "x": _rng.normal(size=B),
    "q": np.array([0.02, 0.31, 0.6, 0.993]),
    "rates": _rng.uniform(0.5, 9.0, (B, K)),
}
MOMENTS = ("mean", "variance")
DRAWN = {
    "locs": _rng.normal(size=(S, B)),
    "scales": _rng.uniform(0.3, 1.0, (S, B)),
    "vectors": _rng.normal(size=(S, B, D)),
    "spreads": _rng.uniform(0.3, 1.0, (S, B, D)),
    "x": _rng.normal(size=(Q, B)),  # more axes than the batch
    "q": _rng.uniform(0.02, 0.98, (Q, 1)),
}
NORMALS = {
    "MultivariateNormal": lambda d, a: d.MultivariateNormal(a["other"], _lower(d, a["tril2"])),
    "MultivariateNormalDiag": lambda d, a: d.MultivariateNormalDiag(a["other"], a["scale"]),
    "LowRankMultivariateNormal": lambda d, a: d.LowRankMultivariateNormal(
        a["other"], a["factor"], a["scale"]
    ),
}


def _lower(d, matrix):
    """The lower triangle, lest the two sides disagree on slopes towards the zeros above it."""
    return jnp.tril(matrix) if d is jd else torch.tril(matrix)


def _square(matrix):
    """A covariance."""
    return matrix @ matrix.swapaxes(-1, -2)


OF_VECTORS = (*DENSITY, "mean", "mode", "variance", "covariance", "entropy", *MARGINAL)


def _bijections(d):
    return import_module(f"{d.__name__}.bijections")


BIJECTIONS = {
    "Exp": lambda d: _bijections(d).Exp(),
    "Sigmoid": lambda d: _bijections(d).Sigmoid(-1.0, 3.0),
}


def _mixture(d, a):
    return d.MixtureSameFamily(d.Categorical(logits=a["logits"]), d.Normal(a["locs"], a["scales"]))


def _mixture_of_weights(d, a):
    return d.MixtureSameFamily(d.Categorical(probs=a["probs"]), d.Gamma(a["rates"], a["scales"]))


def _mixture_of_vectors(d, a):
    parts = d.Independent(d.Logistic(a["vectors"], a["scales"][..., None]), 1)
    return d.MixtureSameFamily(d.Categorical(logits=a["logits"]), parts)


def _mixture_of_counts(d, a):
    return d.MixtureSameFamily(d.Categorical(logits=a["logits"]), d.Poisson(a["rates"]))


FUNCTIONS = [
    distribution_row(
        "MultivariateNormal",
        lambda d, a: d.MultivariateNormal(a["loc"], _lower(d, a["tril"])),
        VECTORS,
        OF_VECTORS,
        kl=NORMALS,
    ),
    distribution_row(
        "MultivariateNormal of its covariance",
        lambda d, a: d.MultivariateNormal(a["loc"], covariance=_square(a["tril"])),
        VECTORS,
        (*DENSITY, "mean", "variance", "covariance", "entropy"),
    ),
    distribution_row(
        "MultivariateNormal of its precision",
        lambda d, a: d.MultivariateNormal(a["loc"], precision=_square(a["tril"])),
        VECTORS,
        (*DENSITY, "mean", "variance", "covariance", "entropy"),
        slow=True,
    ),
    distribution_row(
        "MultivariateNormalDiag",
        lambda d, a: d.MultivariateNormalDiag(a["loc"], a["scale"]),
        VECTORS,
        (*OF_VECTORS, *TAILS),
        kl=NORMALS,
    ),
    distribution_row(
        "LowRankMultivariateNormal",
        lambda d, a: d.LowRankMultivariateNormal(a["loc"], a["factor"], a["scale"]),
        VECTORS,
        OF_VECTORS,
        kl=NORMALS,
    ),
    distribution_row(
        "Dirichlet",
        lambda d, a: d.Dirichlet(a["a"]),
        SIMPLEX,
        (*DENSITY, "mean", "variance", "covariance", "entropy", "marginal cdf"),
        kl={"Dirichlet": lambda d, a: d.Dirichlet(a["other"])},
        draw=False,
    ),
    draws_row("Dirichlet", lambda d, a: d.Dirichlet(a["a"]), SIMPLEX),
    distribution_row(
        "RelaxedOneHotCategorical",
        lambda d, a: d.RelaxedOneHotCategorical(a["t"], logits=a["a"]),
        SIMPLEX,
        (*DENSITY, "logits", "probs"),
    ),
    distribution_row(
        "RelaxedOneHotCategorical from probs",
        lambda d, a: d.RelaxedOneHotCategorical(a["t"], probs=a["probs"]),
        SIMPLEX,
        (*DENSITY, "logits", "probs"),
    ),
    distribution_row(
        "Independent",
        lambda d, a: d.Independent(d.Gumbel(a["loc"], a["scale"]), 1),
        VECTORS,
        (*DENSITY, *TAILS, *MOMENTS, "mode", "entropy", *MARGINAL),
        kl={"Independent": lambda d, a: d.Independent(d.Normal(a["other"], a["scale"]), 1)},
    ),
    *(
        distribution_row(
            f"Transformed by {name}",
            lambda d, a, bijection=bijection: d.Transformed(
                d.Normal(a["locs"], a["scales"]), bijection(d)
            ),
            {**MIXTURE, "x": _rng.uniform(0.1, 2.5, (B, K)), "q": MIXTURE["q"][:, None]},
            (*DENSITY, *TAILS, *QUANTILES),
            second=name != "Exp",
        )
        for name, bijection in BIJECTIONS.items()
    ),
    distribution_row(
        "MixtureSameFamily",
        _mixture,
        MIXTURE,
        (*DENSITY, *TAILS, "quantile", "upper", *MOMENTS),
    ),
    distribution_row(
        "MixtureSameFamily of weights",
        _mixture_of_weights,
        {**MIXTURE, "x": np.abs(MIXTURE["x"])},
        (*DENSITY, *TAILS, "quantile", *MOMENTS),
        slow=True,
    ),
    distribution_row(
        "MixtureSameFamily of vectors",
        _mixture_of_vectors,
        {**MIXTURE, "x": _rng.normal(size=(B, D))},
        (*DENSITY, *MOMENTS, "upper", "marginal cdf"),
        second=True,
    ),
    distribution_row(
        "MixtureSameFamily of counts",
        _mixture_of_counts,
        {**MIXTURE, "x": np.array([0, 3, 5, 20])},
        (*DENSITY, *TAILS, "quantile", *MOMENTS),
        slow=True,
    ),
    distribution_row(
        "Predictive",
        lambda d, a: d.Predictive(d.Normal(a["locs"], a["scales"])),
        DRAWN,
        (*DENSITY, *TAILS, "quantile", *MOMENTS, "aleatoric", "epistemic", "mutual information"),
    ),
    distribution_row(
        "Predictive of vectors",
        lambda d, a: d.Predictive(d.Independent(d.Normal(a["vectors"], a["spreads"]), 1)),
        {**DRAWN, "x": _rng.normal(size=(Q, B, D))},
        (
            *DENSITY,
            *MOMENTS,
            "upper",
            "marginal cdf",
            "aleatoric",
            "epistemic",
            "mutual information",
        ),
        second=True,
    ),
    distribution_row(
        "Predictive of gammas",
        lambda d, a: d.Predictive(d.Gamma(5.0 * a["scales"], a["scales"])),
        {**DRAWN, "x": np.abs(DRAWN["x"])},
        (*DENSITY, "cdf", *MOMENTS, "aleatoric", "epistemic"),
        draw=False,
        slow=True,
    ),
]
