"""Rows at extreme parameters, at the ends of supports, at centres and at q = 0 and 1.

Each element counts by itself here. What is right at these places, the oracles say; these rows say
that both sides agree on it.
"""

import numpy as np

from parity_tests.cases.distribution_row import DENSITY, TAILS, distribution_row


def _row(name: str, build, quantities=DENSITY, **inputs):
    arrays = {n: np.array(v) for n, v in inputs.items()}
    return distribution_row(
        f"{name} at extremes", build, arrays, quantities, draw=False, elementwise=True
    )


CENTRE = np.array([0.0, 0.7])

FUNCTIONS = [
    _row(
        "Normal",
        lambda d, a: d.Normal(a["loc"], a["scale"]),
        (*DENSITY, "log_cdf"),
        loc=[0.0, 0.0, 0.0, 0.0],
        scale=[1e-3, 1e8, 1.0, 1.0],
        x=[0.0, 1e8, -9.0, 4.5],
    ),
    _row(
        "StudentT",
        lambda d, a: d.StudentT(a["df"], a["loc"], a["scale"]),
        df=[1e4, 1e7, 1e12, 3.0, 0.05],
        loc=[0.0, 0.0, 0.0, 0.0, 1.0],
        scale=[1.0, 1.0, 1.0, 1.0, 2.0],
        x=[1.0, 1.0, 1.0, 1e18, -7.0],
    ),
    _row(
        "Cauchy",
        lambda d, a: d.Cauchy(a["loc"], a["scale"]),
        (*DENSITY, *TAILS),
        loc=[0.0, 0.0, 0.0],
        scale=[1.0, 1e-3, 1.0],
        x=[1e18, -3.0, -1e12],
    ),
    _row(
        "Gamma",
        lambda d, a: d.Gamma(a["a"], a["b"]),
        a=[1e4, 1e7, 1e-3, 1.0, 2.0, 0.5],
        b=[1e4, 1e7, 1.0, 2.0, 1.0, 1.0],
        x=[1.0, 1.0, 0.3, 0.0, 0.0, 0.0],
    ),
    _row(
        "Beta",
        lambda d, a: d.Beta(a["a"], a["b"]),
        a=[1e5, 1e8, 1e-2, 2.0, 1.0],
        b=[1e5, 2.0, 1e-2, 2.0, 1.0],
        x=[0.5, 1.0 - 1e-7, 0.3, 0.0, 1.0],
    ),
    _row(
        "Weibull",
        lambda d, a: d.Weibull(a["b"], a["a"]),
        (*DENSITY, *TAILS),
        a=[50.0, 2.0, 0.2, 1.0],
        b=[1.0, 1.0, 3.0, 2.0],
        x=[0.1, 1e-30, 40.0, 0.0],
    ),
    _row(
        "VonMises",
        lambda d, a: d.VonMises(a["loc"], a["k"]),
        (*DENSITY, "variance", "entropy"),
        loc=[0.0, 0.0, 0.0, 2.0],
        k=[100.0, 713.0, 1e-3, 50.0],
        x=[0.1, 0.1, 1.0, 2.1],
    ),
    _row(
        "Poisson",
        lambda d, a: d.Poisson(a["rate"]),
        rate=[1e5, 1e10, 1e-6, 3.0],
        x=[100000, 10000000000, 0, 900],
    ),
    _row(
        "Binomial",
        lambda d, a: d.Binomial(a["n"], probs=a["p"]),
        n=[1e6, 1e8, 20.0, 7.0],
        p=[0.5, 0.5, 0.8, 1e-9],
        x=[500000, 50000000, 20, 1],
    ),
    _row(
        "NegativeBinomial",
        lambda d, a: d.NegativeBinomial(a["n"], probs=a["p"]),
        n=[1e6, 3.0, 0.01],
        p=[1e-6, 1e-8, 0.9],
        x=[2, 2, 700],
    ),
    _row(
        "Bernoulli", lambda d, a: d.Bernoulli(probs=a["p"]), p=[1e-9, 1.0, 0.0, 1.0], x=[1, 1, 1, 0]
    ),
    _row(
        "Categorical",
        lambda d, a: d.Categorical(probs=a["p"]),
        (*DENSITY, "entropy"),
        p=[[0.0, 0.3, 0.7], [0.0, 1.0, 0.0]],
        x=[2, 1],
    ),
    _row(
        "Dirichlet",
        lambda d, a: d.Dirichlet(a["a"]),
        a=[[1.0, 1.0, 1.0], [1e6, 2e6, 1e6]],
        x=[[0.0, 0.5, 0.5], [0.25, 0.5, 0.25]],
    ),
    *(
        _row(
            f"{name} centre",
            lambda d, a, name=name: getattr(d, name)(a["loc"], a["scale"]),
            TAILS,
            loc=CENTRE,
            scale=[1.0, 2.0],
            x=CENTRE,
        )
        for name in ("Normal", "Laplace", "Cauchy", "Logistic", "VonMises")
    ),
    *(
        _row(
            f"{name} quantiles", build, ("quantile",), a=[0.7, 3.0], b=[1.5, 2.0], q=[[0.0], [1.0]]
        )
        for name, build in {
            "Normal": lambda d, a: d.Normal(a["a"], a["b"]),
            "Gamma": lambda d, a: d.Gamma(a["a"], a["b"]),
            "Uniform": lambda d, a: d.Uniform(a["a"], a["a"] + a["b"]),
            "Poisson": lambda d, a: d.Poisson(a["a"]),
            "Predictive": lambda d, a: d.Predictive(d.Normal(a["a"][:, None], a["b"][:, None])),
        }.items()
    ),
]
