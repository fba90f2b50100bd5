"""Which rows the table has: values and parameters of each law, by what is extreme about them.

    points      (label, value(s), parameters)    density, tails and their gradients
    quantiles   (label, probability, parameters)
    parameters  (label, parameters)              entropy, mean, variance
    pairs       (label, parameters, parameters of the other)

All numbers are rounded to the dtype before anything is computed from them.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Rows", "rows_of"]

INF = float("inf")
PROBABILITIES = (0.0, 1e-30, 1e-6, 0.25, 0.5, 0.75, 1 - 2.0**-20, 1.0)
FEW = (1e-30, 0.3, 1 - 2.0**-20)


class Rows(NamedTuple):
    """Lists of (label, *numbers)."""

    points: list
    quantiles: list
    parameters: list
    pairs: list


def grid(sets, values, first=None):
    """Each set of parameters with each value; `first` are the values of the first set."""
    rows = []
    for i, (label, *parameters) in enumerate(sets):
        for value_label, value in (first if first is not None and i == 0 else values)(*parameters):
            rows.append((f"{label}; {value_label}", value, *parameters))
    return rows


def quantiles(sets, first=PROBABILITIES, others=FEW):
    return [
        (f"{label}; q {q:g}" if q != 1 - 2.0**-20 else f"{label}; q 1 - 2^-20", q, *parameters)
        for i, (label, *parameters) in enumerate(sets)
        for q in (first if i == 0 else others)
    ]


def pairs(*couples):
    return [(f"{p} | {q}", *p, *q) for p, q in couples]


def located(extra=()):
    """Location-scale families; `extra` parameters come first."""
    sets = [
        ("standard", *extra, 0.0, 1.0), ("scale 1e-30", *extra, 0.0, 1e-30),
        ("scale 1e30", *extra, 0.0, 1e30), ("loc -1e6, scale 1e4", *extra, -1e6, 1e4),
        ("loc 1e30", *extra, 1e30, 1.0), ("loc 3, scale 1e-3", *extra, 3.0, 1e-3),
    ]  # fmt: skip

    def at(zs):
        return lambda *p: [(f"z {z:g}", p[-2] + p[-1] * z) for z in zs]

    signed = [0.0] + [s * z for z in (1e-20, 0.5, 3, 9, 15, 40, 1e3, 1e10, 1e30) for s in (-1, 1)]
    points = grid(sets, at((-9.0, -0.5, 0.0, 2.0, 40.0, 1e4)), at(signed))
    points += [("loc 1e30; value 0", 0.0, *extra, 1e30, 1.0)]
    points += [("standard; subnormal value", 1e-40, *extra, 0.0, 1.0)]
    parameters = [*sets, ("scale 1e-15", *extra, 0.0, 1e-15), ("scale 1e15", *extra, 0.0, 1e15)]
    couples = pairs(
        ((0.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (0.0, 1 + 2.0**-20)), ((0.0, 1.0), (1e-6, 1.0)),
        ((0.0, 1.0), (3.0, 2.0)), ((0.0, 1e-30), (0.0, 1e30)), ((0.0, 1e10), (0.0, 1.0)),
        ((0.0, 1.0), (1e10, 1e10)), ((0.0, 1.0), (0.0, 1e-10)), ((1e30, 1.0), (1e30, 2.0)),
        ((0.0, 1e-20), (1.0, 1.0)), ((-3.0, 1.0), (0.0, 1.0)),
    )  # fmt: skip
    return Rows(points, quantiles(sets), parameters, couples)


def student():
    rows = [located((df,)) for df in (3.0, 1e-2, 1e8)]
    first = rows[0]
    points = first.points
    sets = [(f"df {df:g}", df, 0.0, 1.0) for df in (1e-6, 1e-2, 0.5, 1.0, 30.0, 1e4, 1e8)]
    zs = (-1e30, -40.0, -1.0, 1e-20, 0.3, 9.0, 1e4)
    points = points[:34] + grid(sets, lambda *p: [(f"z {z:g}", z) for z in zs])
    parameters = first.parameters + [(f"df {df:g}", df, 1.0, 2.0) for df in
                                     (1e-6, 1e-2, 1.0, 1.5, 2.0, 2.5, 30.0, 1e4, 1e8)]  # fmt: skip
    return Rows(points, quantiles(first.quantiles and [("df 3", 3.0, 0.0, 1.0), *sets]),
                parameters, [])  # fmt: skip


def gamma(inverse=False):
    shapes = (2.0, 1e-6, 1e-3, 0.5, 1.0, 50.0, 1e4, 1e8)
    sets = [(f"concentration {a:g}", a, 1.0) for a in shapes]

    def near(a, b):
        spread = [("bulk", a / b), ("+2 sd", (a + 2 * a**0.5) / b),
                  ("far above", (a + 30 * a**0.5) / b),
                  ("below", a / b / (1 + 2 / a**0.5))]  # fmt: skip
        values = [*spread, ("value 1e-30 of the mean", 1e-30 * a / b), ("1000 means", 1e3 * a / b)]
        return [(name, 1 / v if inverse else v) for name, v in values]

    ends = [("value 0", 0.0), ("subnormal value", 1e-40), ("smallest", 1.2e-38),
            ("value -1", -1.0), ("value 1e30", 1e30), ("value 1e-20", 1e-20)]  # fmt: skip
    points = grid(sets, near)
    points += grid(sets[:5], lambda *p: ends)
    points += grid([("rate 1e-30", 2.0, 1e-30), ("rate 1e30", 0.5, 1e30),
                    ("rate 1e10, concentration 1e8", 1e8, 1e10)], near)  # fmt: skip
    parameters = [*sets, ("rate 1e-30", 2.0, 1e-30), ("rate 1e30", 3.5, 1e30),
                  ("concentration 1e20", 1e20, 1.0)]  # fmt: skip
    couples = pairs(
        ((2.0, 3.0), (2.0, 3.0)), ((2.0, 3.0), (2.0 + 2.0**-18, 3.0)), ((1e6, 1e6), (1.0, 1.0)),
        ((1e8, 1e8), (1.0, 1.0)), ((1.0, 1.0), (1e8, 1e8)), ((1e-6, 1.0), (1.0, 1.0)),
        ((1.0, 1.0), (1e-6, 1.0)), ((1e4, 1.0), (1.01e4, 1.0)), ((2.0, 1e-30), (2.0, 1e-28)),
        ((1e8, 1.0), (1e8 + 64, 1.0)), ((0.5, 1e10), (3.0, 1e-10)),
    )  # fmt: skip
    sets += [("rate 1e-30", 2.0, 1e-30), ("rate 1e30", 0.5, 1e30)]
    return Rows(points, quantiles(sets), parameters, couples)


def exponential():
    sets = [(f"rate {r:g}", r) for r in (1.0, 1e-30, 1e30, 3e4)]
    ts = (0.0, 1e-20, 1e-6, 0.5, 3.0, 40.0, 1e3, 1e10)
    values = lambda r: [(f"rate x {t:g}", t / r) for t in ts]  # noqa: E731
    points = grid(sets, values) + grid(sets[:3], lambda r: ENDS)
    couples = pairs(*(((a,), (b,)) for a, b in (
        (1.0, 1.0), (1.0, 1 + 2.0**-20), (1.0, 2.0), (1e-30, 1e30), (1e30, 1e-30), (1e10, 1.0),
        (1.0, 1e10))))  # fmt: skip
    return Rows(points, quantiles(sets), [*sets, ("rate 1e-15", 1e-15)], couples)


ENDS = [("subnormal value", 1e-40), ("smallest", 1.2e-38), ("value -1", -1.0),
        ("value 1e30", 1e30), ("value -1e30", -1e30)]  # fmt: skip


def weibull():
    sets = [("k 2", 1.0, 2.0), *((f"k {k:g}", 1.0, k) for k in (1e-6, 1e-2, 0.5, 1.0, 50.0, 1e4)),
            ("scale 1e-30", 1e-30, 1.5), ("scale 1e30", 1e30, 0.7)]  # fmt: skip
    hazards = (1e-20, 1e-6, 0.4, 3.0, 60.0, 1e4)

    def values(s, k):
        logs = [(f"hazard {h:g}", np.log(h) / k) for h in hazards]
        return [(name, s * np.exp(v)) for name, v in logs if abs(v) < 85]

    points = grid(sets, values) + grid(sets[:6], lambda s, k: [("value 0", 0.0), *ENDS])
    couples = pairs(
        ((1.0, 2.0), (1.0, 2.0)), ((1.0, 2.0), (1.0, 2 + 2.0**-18)), ((1.0, 1e4), (1.0, 1.0)),
        ((1.0, 1.0), (1.0, 50.0)), ((1e-30, 1.5), (1e-28, 1.5)), ((1e10, 1.0), (1.0, 1.0)),
        ((1.0, 0.5), (3.0, 0.7)), ((1e4, 50.0), (1.0, 50.0)),
    )  # fmt: skip
    return Rows(points, quantiles(sets), sets, couples)


def log_normal(facts=True):
    sets = [("standard", 0.0, 1.0), ("scale 1e-4", 0.0, 1e-4), ("scale 30", 2.0, 30.0),
            ("loc -60", -60.0, 2.0), ("loc 60", 60.0, 0.5), ("scale 1e4", 0.0, 1e4)]  # fmt: skip

    def values(m, s):
        zs = (-40.0, -9.0, -1.0, 1e-3, 0.0, 0.5, 3.0, 15.0)
        return [(f"z {z:g}", np.exp(m + s * z)) for z in zs if abs(m + s * z) < 86]

    points = grid(sets, values) + grid(sets, lambda m, s: [("value 0", 0.0), *ENDS])
    base = located()
    return Rows(points, quantiles(sets), sets if facts else [], base.pairs if facts else [])


def sigmoid_normal():
    sets = [("standard", 0.0, 1.0), ("scale 1e-3", 0.0, 1e-3), ("scale 20", 2.0, 20.0),
            ("loc -30", -30.0, 2.0), ("loc 12", 12.0, 0.5)]  # fmt: skip
    points = grid(sets, lambda *p: UNIT_VALUES)
    return Rows(points, quantiles(sets), [], [])


UNIT_VALUES = [("value 0", 0.0), ("subnormal value", 1e-40), ("smallest", 1.2e-38),
               ("value 1e-20", 1e-20), ("value 0.01", 0.01), ("value 0.5", 0.5),
               ("value 0.75", 0.75), ("next to 1", 1 - 2.0**-23), ("value 1", 1.0),
               ("value -1", -1.0), ("value 2", 2.0), ("value 1e30", 1e30)]  # fmt: skip


def relaxed():
    sets = [("t 1", 1.0, 0.0), ("t 1e-3", 1e-3, 1.0), ("t 0.1", 0.1, -2.0), ("t 30", 30.0, 2.0),
            ("t 1e4", 1e4, 0.5), ("logits 1e4", 0.7, 1e4), ("logits -1e4", 2.0, -1e4)]  # fmt: skip
    return Rows(grid(sets, lambda *p: UNIT_VALUES), quantiles(sets), [], [])


def half_normal():
    sets = [(f"scale {s:g}", s) for s in (1.0, 1e-30, 1e30, 3e4)]
    zs = (0.0, 1e-20, 1e-6, 0.5, 3.0, 15.0, 40.0, 1e4, 1e10)
    points = grid(sets, lambda s: [(f"z {z:g}", z * s) for z in zs])
    points += grid(sets[:3], lambda s: ENDS)
    couples = exponential().pairs
    return Rows(points, quantiles(sets), [*sets, ("scale 1e-15", 1e-15)], couples)


def beta():
    shapes = [(2.0, 3.0), (1e-6, 1e-6), (1e-3, 2.0), (0.5, 0.5), (1.0, 1.0), (1.0, 5.0),
              (50.0, 0.3), (1e4, 2e4), (1e8, 1e8), (1e8, 2.0), (1e-6, 1e8), (3.0, 1e4)]  # fmt: skip
    sets = [(f"concentrations {a:g}, {b:g}", a, b) for a, b in shapes]

    def near(a, b):
        m, s = a / (a + b), (a * b / (a + b + 1)) ** 0.5 / (a + b)
        spread = [("mean", m), ("+2 sd", m + 2 * s), ("-2 sd", m - 2 * s), ("+30 sd", m + 30 * s)]
        return [(name, v) for name, v in spread if 0 < v < 1] + [("value 0.3", 0.3)]

    points = grid(sets, near) + grid(sets[:7], lambda *p: UNIT_VALUES)
    couples = pairs(
        ((2.0, 3.0), (2.0, 3.0)), ((2.0, 3.0), (2.0 + 2.0**-18, 3.0)), ((1e6, 1e6), (1.0, 1.0)),
        ((1e8, 1e8), (1.0, 1.0)), ((1.0, 1.0), (1e8, 1e8)), ((1e-6, 1.0), (1.0, 1.0)),
        ((1.0, 1.0), (1e-6, 1e-6)), ((1e4, 2e4), (1.01e4, 2e4)), ((1e8, 2.0), (2.0, 1e8)),
    )  # fmt: skip
    return Rows(points, quantiles(sets), sets, couples)


def uniform():
    sets = [("0 to 1", 0.0, 1.0), ("-1e30 to 1e30", -1e30, 1e30), ("0 to 1e-30", 0.0, 1e-30),
            ("1e6 to 1e6 + 1", 1e6, 1e6 + 1), ("-3 to 5", -3.0, 5.0)]  # fmt: skip

    def values(a, b):
        at = [(f"at {t:g}", a + t * (b - a)) for t in (0.0, 1e-6, 0.25, 0.5, 0.75, 1 - 2.0**-20)]
        return [*at, ("at the end", b), ("below", a - 1.0 - abs(a)), ("above", b + 1.0 + abs(b)),
                ("value 1e36", 1e36)]  # fmt: skip

    points = grid(sets, values) + [("0 to 1; subnormal value", 1e-40, 0.0, 1.0),
                                   ("0 to 1; smallest", 1.2e-38, 0.0, 1.0)]  # fmt: skip
    couples = pairs(((0.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (-1e30, 1e30)),
                    ((0.0, 1e-30), (0.0, 1.0)), ((0.0, 1.0), (0.5, 2.0)))  # fmt: skip
    return Rows(points, quantiles(sets), sets, couples)


def von_mises():
    ks = (1.0, 0.0, 1e-6, 1e-3, 30.0, 1e3, 1e6, 1e8)
    sets = [(f"k {k:g}", 0.0, k) for k in ks] + [("loc 2, k 5", 2.0, 5.0)]

    def values(m, k):
        s = min(1.0, 1 / (k + 1e-9) ** 0.5)
        return [(f"z {z:g}", m + s * z) for z in (-3.0, -0.5, 0.0, 1e-20, 1.0)] + [
            ("angle 2", m + 2.0), ("angle -3.14", m - 3.14)]  # fmt: skip

    points = grid(sets, values) + [("k 2; next turn", 7.0, 0.0, 2.0),
                                   ("k 2; 100 turns", 630.0, 0.0, 2.0)]  # fmt: skip
    couples = pairs(*(((0.0, a), (b, c)) for a, b, c in (
        (1.0, 0.0, 1.0), (1.0, 0.0, 1 + 2.0**-18), (1e8, 0.0, 1.0), (1.0, 0.0, 1e8),
        (1e6, 1e-3, 2e6), (0.0, 1.0, 3.0), (3.0, 1.0, 0.0), (1e-6, 1.0, 1e-6))))  # fmt: skip
    return Rows(points, quantiles(sets), sets, couples)


CONTINUOUS = {
    "Normal": located, "Laplace": located, "Cauchy": located, "Logistic": located,
    "Gumbel": located, "StudentT": student, "LogNormal": log_normal, "Gamma": gamma,
    "InverseGamma": lambda: gamma(inverse=True), "Exponential": exponential,
    "HalfNormal": half_normal, "Weibull": weibull, "Beta": beta, "Uniform": uniform,
    "VonMises": von_mises, "RelaxedBernoulli": relaxed,
    "Transformed(Normal, Exp)": lambda: log_normal(facts=False),
    "Transformed(Normal, Sigmoid)": sigmoid_normal,
}  # fmt: skip


def rows_of(name):
    """Returns the rows of a law, as Python numbers."""
    from tests.extremes.rows_of_counts import COUNTS

    return {**CONTINUOUS, **COUNTS}[name]()
