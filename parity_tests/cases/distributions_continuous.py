"""Rows of the distributions over real numbers, at typical parameters."""

import numpy as np

from parity_tests.cases.distribution_row import EVERYTHING, SEARCHED, distribution_row, draws_row

_rng = np.random.default_rng(11)
B = 5

REAL = {
    "loc": _rng.normal(size=B),
    "scale": _rng.uniform(0.4, 2.0, B),
    "x": _rng.normal(size=B),
    "q": np.array([0.03, 0.3, 0.5, 0.71, 0.996]),
    "other": _rng.normal(size=B),
}
POSITIVE = {
    "a": np.array([0.6, 1.3, 2.7, 4.1, 15.0]),
    "b": _rng.uniform(0.4, 2.5, B),
    "x": _rng.uniform(0.2, 3.0, B),
    "q": REAL["q"],
    "other": _rng.uniform(0.5, 3.0, B),
}
UNIT = {**POSITIVE, "x": _rng.uniform(0.05, 0.95, B)}
ANGLES = {
    "loc": _rng.uniform(-1.0, 1.0, B),
    "k": np.array([0.05, 0.7, 3.0, 20.0, 60.0]),
    "x": np.array([-1.1, 0.3, 1.9, 0.6, 0.1]),
    "q": REAL["q"],
    "other": _rng.uniform(0.5, 3.0, B),
}
WITH_DF = {**REAL, "df": np.array([2.5, 3.1, 7.0, 30.0, 120.0])}


def _two(name: str, first: str, second: str, **fixed):
    """A constructor of (package, inputs) with two parameters."""
    return lambda d, a: getattr(d, name)(a[first], a[second], **fixed)


def _normal(d, a):
    return d.Normal(a["other"], a["scale"])


def _gamma(d, a):
    return d.Gamma(a["other"], a["b"])


def _exponential(d, a):
    return d.Exponential(a["other"])


def _location(name: str, without=(), kl=True, to_normal=True):
    to = {}
    if kl:
        to[name] = lambda d, a: getattr(d, name)(a["other"], 1.5 * a["scale"])
    if to_normal:
        to["Normal"] = _normal
    return distribution_row(name, _two(name, "loc", "scale"), REAL, without=without, kl=to)


FUNCTIONS = [
    _location("Normal"),
    _location("Laplace"),
    _location("Cauchy", without=("mean", "variance", "mode"), to_normal=False),
    _location("Logistic", kl=False),
    _location("Gumbel"),
    distribution_row(
        "StudentT",
        lambda d, a: d.StudentT(a["df"], a["loc"], a["scale"]),
        WITH_DF,
        without=("quantile", *SEARCHED),
        kl={"Normal": _normal},
        draw=False,
    ),
    distribution_row(
        "StudentT quantile",
        lambda d, a: d.StudentT(a["df"], a["loc"], a["scale"]),
        WITH_DF,
        ("quantile",),
        draw=False,
        slow=True,
    ),
    distribution_row(
        "Beta quantile", _two("Beta", "a", "b"), UNIT, ("quantile",), draw=False, slow=True
    ),
    distribution_row(
        "LogNormal",
        _two("LogNormal", "loc", "scale"),
        {**POSITIVE, "loc": REAL["loc"], "scale": REAL["scale"] / 2},
        kl={
            "LogNormal": lambda d, a: d.LogNormal(a["other"], a["b"]),
            "Normal": lambda d, a: d.Normal(a["other"], a["b"]),
            "Gamma": _gamma,
            "Exponential": _exponential,
        },
    ),
    distribution_row(
        "Exponential",
        lambda d, a: d.Exponential(a["b"]),
        POSITIVE,
        kl={
            "Exponential": _exponential,
            "Normal": lambda d, a: d.Normal(a["other"], a["a"]),
            "Gamma": lambda d, a: d.Gamma(a["other"], a["a"]),
        },
    ),
    distribution_row(
        "HalfNormal",
        lambda d, a: d.HalfNormal(a["b"]),
        POSITIVE,
        kl={
            "HalfNormal": lambda d, a: d.HalfNormal(a["other"]),
            "Normal": lambda d, a: d.Normal(a["other"], a["a"]),
            "Gamma": lambda d, a: d.Gamma(a["other"], a["a"]),
            "Exponential": _exponential,
        },
    ),
    distribution_row(
        "Weibull",
        _two("Weibull", "b", "a"),
        POSITIVE,
        kl={
            "Weibull": lambda d, a: d.Weibull(a["other"], 0.9 * a["a"]),
            "Normal": lambda d, a: d.Normal(a["other"], a["a"]),
            "Gamma": lambda d, a: d.Gamma(a["other"], a["b"]),
            "Exponential": _exponential,
        },
    ),
    distribution_row(
        "Gamma",
        _two("Gamma", "a", "b"),
        POSITIVE,
        without=SEARCHED,
        kl={
            "Gamma": _gamma,
            "Normal": lambda d, a: d.Normal(a["other"], a["b"]),
            "Exponential": _exponential,
        },
        draw=False,
    ),
    distribution_row(
        "InverseGamma",
        lambda d, a: d.InverseGamma(a["a"] + 2.0, a["b"]),
        POSITIVE,
        without=("quantile", *SEARCHED),
        kl={
            "InverseGamma": lambda d, a: d.InverseGamma(a["other"], 1.3 * a["b"]),
            "Normal": lambda d, a: d.Normal(a["other"], a["b"]),
            "Gamma": lambda d, a: d.Gamma(a["other"], a["a"]),
            "Exponential": _exponential,
        },
        draw=False,
        second=True,
    ),
    distribution_row(
        "Beta",
        _two("Beta", "a", "b"),
        UNIT,
        without=(
            "mode",
            "quantile",
            *SEARCHED,
        ),  # of the mode ours has a limit where torch has a clamp
        kl={
            "Beta": lambda d, a: d.Beta(a["other"], a["a"]),
        },
        draw=False,
    ),
    distribution_row(
        "Uniform",
        lambda d, a: d.Uniform(a["loc"] - a["scale"], a["loc"] + 2.0 * a["scale"]),
        {**REAL, "x": REAL["loc"] + 0.3 * REAL["scale"]},
        kl={
            "Uniform": lambda d, a: d.Uniform(a["loc"] - 2.0 * a["scale"], a["loc"] + 9.0),
            "Normal": _normal,
        },
    ),
    distribution_row(
        "VonMises",
        _two("VonMises", "loc", "k"),
        ANGLES,
        without=("quantile", *SEARCHED),
        kl={"VonMises": lambda d, a: d.VonMises(0.5 * a["loc"], a["other"])},
        draw=False,
    ),
    *(
        draws_row(name, build, inputs)
        for name, build, inputs in (
            ("StudentT", lambda d, a: d.StudentT(a["df"], a["loc"], a["scale"]), WITH_DF),
            ("Gamma", _two("Gamma", "a", "b"), POSITIVE),
            ("InverseGamma", _two("InverseGamma", "a", "b"), POSITIVE),
            ("Beta", _two("Beta", "a", "b"), UNIT),
            ("VonMises", _two("VonMises", "loc", "k"), ANGLES),
        )
    ),
    distribution_row("Deterministic", lambda d, a: d.Deterministic(a["loc"]), REAL),
    distribution_row(
        "Deterministic with a tolerance",
        lambda d, a: d.Deterministic(a["loc"], 0.5 * a["scale"], 0.2 * a["scale"]),
        REAL,
        kl={"Deterministic": lambda d, a: d.Deterministic(a["other"], a["scale"], a["q"])},
    ),
    *(
        distribution_row(
            f"RelaxedBernoulli from {form}",
            lambda d, a, form=form: d.RelaxedBernoulli(a["t"], **{form: a[form]}),
            {
                "t": np.array([0.3, 0.5, 1.0, 1.7, 2.5]),
                "logits": _rng.normal(size=B),
                "probs": _rng.uniform(0.1, 0.9, B),
                **{name: UNIT[name] for name in ("x", "q")},
            },
            quantities=[q for q in EVERYTHING if q not in ("mean", "variance", "mode", "entropy")],
        )
        for form in ("logits", "probs")
    ),
]
