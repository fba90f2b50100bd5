"""Rows of the distributions over counts and classes, at typical parameters."""

import numpy as np

from parity_tests.cases.distribution_row import (
    DENSITY,
    MOMENTS,
    TAILS,
    distribution_row,
    draws_row,
)

_rng = np.random.default_rng(12)
B, K = 5, 4
FORMS = ("logits", "probs")

COUNTS = {
    "rate": np.array([0.3, 1.6, 4.2, 11.0, 40.0]),
    "n": np.array([3, 7, 12, 20, 90]),
    "size": np.array([0.7, 1.5, 3.2, 8.0, 25.0]),
    "logits": _rng.normal(size=B),
    "probs": _rng.uniform(0.15, 0.85, B),
    "other": _rng.uniform(0.2, 0.8, B),
    "x": np.array([0, 2, 3, 14, 37]),
    "q": np.array([0.013, 0.3, 0.5, 0.71, 0.997]),
    "z": np.array([-0.4, 1.1, -2.0, 0.3, 0.0]),
}
CLASSES = {
    "logits": _rng.normal(size=(B, K)),
    "probs": _rng.dirichlet(np.ones(K), B) * 3.0,  # need not be normalised
    "other": _rng.normal(size=(B, K)),
    "x": np.array([0, 3, 1, 2, 0]),
    "q": COUNTS["q"],
    "n": np.array([1, 3, 8, 20, 50]),
    "y": _rng.multinomial(1, np.ones(K) / K, B),
    "counts": np.stack([_rng.multinomial(n, np.ones(K) / K) for n in (1, 3, 8, 20, 50)]),
}
DISCRETE = (*DENSITY, *TAILS, "quantile", *MOMENTS)


def _rows(
    name: str, build, quantities, kl: bool, inputs=COUNTS, x: str = "x", draw=True, second=False
):
    """A row for each of the two ways to give the odds."""
    return [
        distribution_row(
            f"{name} from {form}",
            lambda d, a, form=form: build(d, {**a, "x": a[x]}, {form: a[form]}),
            {**inputs, "x": inputs[x]},
            (*quantities, *FORMS),
            kl={name: lambda d, a: build(d, a, {FORMS[0]: a["other"]})} if kl else None,
            draw=draw,
            slow=form == "probs",
            second=second,
        )
        for form in FORMS
    ]


FUNCTIONS = [
    distribution_row(
        "Poisson",
        lambda d, a: d.Poisson(a["rate"]),
        COUNTS,
        DISCRETE,
        kl={"Poisson": lambda d, a: d.Poisson(a["size"])},
        draw=False,
    ),
    *_rows("Geometric", lambda d, a, odds: d.Geometric(**odds), (*DISCRETE, "entropy"), True),
    *_rows(
        "Binomial",
        lambda d, a, odds: d.Binomial(a["n"], **odds),
        DISCRETE,
        True,
        draw=False,
        second=True,
    ),
    *_rows(
        "NegativeBinomial",
        lambda d, a, odds: d.NegativeBinomial(a["size"], **odds),
        DISCRETE,
        True,
        draw=False,
    ),
    *(
        draws_row(name, build, inputs)
        for name, build, inputs in (
            ("Poisson", lambda d, a: d.Poisson(a["rate"]), COUNTS),
            ("Binomial", lambda d, a: d.Binomial(a["n"], logits=a["logits"]), COUNTS),
            (
                "NegativeBinomial",
                lambda d, a: d.NegativeBinomial(a["size"], logits=a["logits"]),
                COUNTS,
            ),
            (
                "ZeroInflated Poisson",
                lambda d, a: d.ZeroInflated(d.Poisson(a["rate"]), a["z"]),
                COUNTS,
            ),
            (
                "Multinomial",
                lambda d, a: d.Multinomial(a["n"], logits=a["logits"]),
                {**CLASSES, "x": CLASSES["counts"]},
            ),
        )
    ),
    *_rows(
        "Bernoulli",
        lambda d, a, odds: d.Bernoulli(**odds),
        (*DISCRETE, "entropy"),
        True,
        {**COUNTS, "x": np.array([0, 1, 1, 0, 1])},
    ),
    distribution_row(
        "ZeroInflated Poisson",
        lambda d, a: d.ZeroInflated(d.Poisson(a["rate"]), a["z"]),
        COUNTS,
        DISCRETE,
        draw=False,
        second=True,
    ),
    distribution_row(
        "ZeroInflated NegativeBinomial",
        lambda d, a: d.ZeroInflated(d.NegativeBinomial(a["size"], logits=a["logits"]), a["z"]),
        COUNTS,
        DISCRETE,
        slow=True,
        draw=False,
    ),
    distribution_row(
        "Quantized Normal",
        lambda d, a: d.Quantized(d.Normal(a["z"], a["size"])),
        {**COUNTS, "x": np.array([0, 2, -3, 14, -37])},
        (*DENSITY, *TAILS, "quantile"),
        slow=True,
    ),
    distribution_row(
        "Quantized Logistic with ends",
        lambda d, a: d.Quantized(d.Logistic(a["z"], a["size"]), -2, 14),
        {**COUNTS, "x": np.array([0, 2, -2, 14, 5])},
        (*DENSITY, *TAILS, "quantile", "mean", "variance"),
        second=True,
    ),
    *_rows(
        "Categorical",
        lambda d, a, odds: d.Categorical(**odds),
        (*DENSITY, *TAILS, "quantile", "lower", "mode", "entropy"),
        True,
        CLASSES,
    ),
    *_rows(
        "OneHotCategorical",
        lambda d, a, odds: d.OneHotCategorical(**odds),
        (*DENSITY, *MOMENTS, "lower", "entropy", "marginal cdf"),
        True,
        CLASSES,
        x="y",
    ),
    *_rows(
        "Multinomial",
        lambda d, a, odds: d.Multinomial(a["n"], **odds),
        (*DENSITY, "mean", "variance", "covariance", "lower", "marginal cdf"),
        True,
        CLASSES,
        x="counts",
        draw=False,
        second=True,
    ),
]
