"""The rows of the laws of counts, classes, rounded numbers and vectors; see `rows.py`."""

import math

from tests.extremes.rows import Rows, grid, pairs, quantiles

__all__ = ["COUNTS"]

OUTSIDE = [("value -1", -1.0), ("value 2.5", 2.5), ("value -1e30", -1e30)]


def odds(form):
    """(label, parameter) of a probability of success."""
    logits = [("logits 0.3", 0.3), ("logits 20", 20.0), ("logits -20", -20.0),
              ("logits 100", 100.0), ("logits -100", -100.0), ("logits 1e4", 1e4),
              ("logits -1e4", -1e4)]  # fmt: skip
    probs = [("probs 0.3", 0.3), ("probs 0", 0.0), ("probs 1", 1.0), ("probs 1e-9", 1e-9),
             ("probs 1e-30", 1e-30), ("next to 1", 1 - 2.0**-23), ("probs 0.5", 0.5)]  # fmt: skip
    return logits if form == "logits" else probs


def odds_pairs(form, counts=()):
    ps = ((0.3, 0.3), (0.3, 0.3 + 2.0**-20), (20.0, -20.0), (1e4, -1e4), (-1e4, 3.0), (100.0, 0.0))
    if form == "probs":
        ps = ((0.3, 0.3), (0.3, 0.3 + 2.0**-20), (1e-9, 0.5), (0.5, 1e-30), (1 - 2.0**-20, 0.5),
              (1e-30, 1e-20))  # fmt: skip
    return pairs(*(((*counts, p), (*counts, q)) for p, q in ps))


def bernoulli(form):
    sets = odds(form)
    points = grid(sets, lambda *p: [("value 0", 0.0), ("value 1", 1.0)])
    points += grid(sets[:3], lambda *p: [("value 0.5", 0.5), ("value -1", -1.0),
                                         ("value 2", 2.0), ("value 1e30", 1e30)])  # fmt: skip
    return Rows(points, quantiles(sets[:1]), sets, odds_pairs(form))


def geometric(form):
    sets = [s for s in odds(form) if s[0] != "probs 0"]
    counts = (0.0, 1.0, 7.0, 1e3, 1e9)
    points = grid(sets, lambda *p: [(f"value {k:g}", k) for k in counts])
    points += grid(sets[:2], lambda *p: OUTSIDE)
    return Rows(points, quantiles(sets[:3]), sets, odds_pairs(form))


def poisson():
    rates = (3.0, 0.0, 1e-30, 1e-6, 0.5, 100.0, 1e4, 1e6, 1e9)
    sets = [(f"rate {r:g}", r) for r in rates]

    def counts(rate):
        spread = [rate + z * rate**0.5 for z in (-6, -1, 0, 2, 30)]
        ks = sorted({float(math.floor(max(k, 0.0))) for k in [0, 1, 5, 1e3, *spread]})
        return [(f"value {k:g}", k) for k in ks]

    points = grid(sets, counts) + grid(sets[:2], lambda r: OUTSIDE)
    points += [("rate 3; value 1e9", 1e9, 3.0)]
    couples = pairs(*(((a,), (b,)) for a, b in (
        (3.0, 3.0), (3.0, 3 + 2.0**-18), (0.0, 2.0), (1e9, 1.0), (1e-30, 1e9), (1e8, 1e8 + 64),
        (1e-30, 1e-20))))  # fmt: skip
    return Rows(points, quantiles(sets), sets, couples)


def zero_inflated():
    sets = [("logits 0, rate 3", 0.0, 3.0)]
    sets += [(f"logits {g:g}, rate 3", g, 3.0) for g in (-20.0, 20.0, -1e4, 1e4)]
    sets += [(f"rate {r:g}", -1.0, r) for r in (1e-30, 1e-3, 100.0, 1e6)]

    def counts(g, r):
        ks = (0.0, 1.0, 5.0, 1e3, float(math.floor(r + 2 * r**0.5)))
        return [(f"value {k:g}", k) for k in ks]

    points = grid(sets, counts)
    points += grid(sets[:1], lambda *p: OUTSIDE)
    return Rows(points, quantiles(sets[:1] + sets[5:]), sets, [])


def binomial(form):
    some = odds(form)
    sets = [(f"n 20, {label}", 20.0, p) for label, p in some]
    half = 0.0 if form == "logits" else 0.5
    small = -12.0 if form == "logits" else 1e-5
    sets += [(f"n {n:g}, p 1/2", n, half) for n in (1.0, 1e3, 1e6, 1e9)]
    sets += [(f"n {n:g}, small p", n, small) for n in (1e3, 1e6, 1e9)]

    def counts(n, p):
        p = p if form == "probs" else 1 / (1 + math.exp(-max(min(p, 700.0), -700.0)))
        mean, sd = n * p, (n * p * (1 - p)) ** 0.5
        near = [mean + z * sd for z in (-6, 0, 2, 30)] if n > 20 else [7.0]
        ks = sorted({float(math.floor(min(max(k, 0.0), n))) for k in [0, 1, n - 1, n, *near]})
        return [(f"value {k:g}", k) for k in ks]

    points = grid(sets, counts) + grid(sets[:1], lambda *p: [*OUTSIDE, ("value 21", 21.0)])
    couples = odds_pairs(form, (20.0,)) + odds_pairs(form, (1e9,))[:3]
    return Rows(points, quantiles([sets[0], *sets[-7:]]), sets, couples)


def negative_binomial(form):
    some = [s for s in odds(form) if s[0] != "probs 1"]
    sets = [(f"n 3, {label}", 3.0, p) for label, p in some]
    half = 0.0 if form == "logits" else 0.5
    small = -12.0 if form == "logits" else 1e-5
    sets += [(f"n {n:g}, p 1/2", n, half) for n in (1e-6, 1e-2, 1e3, 1e6, 1e8)]
    sets += [(f"n {n:g}, small p", n, small) for n in (1e-3, 1e3, 1e8)]

    def counts(n, p):
        odd = p / (1 - p) if form == "probs" else math.exp(max(min(p, 16.0), -700.0))
        mean, sd = n * odd, (n * odd * (1 + odd)) ** 0.5
        ks = [0, 1, 7, 1e3, *(mean + z * sd for z in (-3, 0, 2, 30) if mean < 1e10)]
        ks = sorted({float(math.floor(max(k, 0.0))) for k in ks})
        return [(f"value {k:g}", k) for k in ks]

    points = grid(sets, counts) + grid(sets[:1], lambda *p: OUTSIDE)
    couples = odds_pairs(form, (3.0,)) + odds_pairs(form, (1e6,))[:3]
    if form == "probs":
        couples = [c for c in couples if c[-1] < 1]
    return Rows(points, quantiles([sets[0], *sets[-8:]]), sets, couples)


def rounded(law, ends=False):
    scales = (1.0, 1e-30, 0.03, 30.0, 1e4, 1e6, 1e7, 1e30)
    sets = [(f"scale {s:g}", 0.0, s) for s in scales] + [("loc 1000.4, scale 2", 1000.4, 2.0)]
    if ends:
        sets = [("scale 10", 127.0, 10.0), ("scale 1e-30", 127.0, 1e-30), ("scale 1e4", 90.0, 1e4),
                ("scale 1e7", 90.0, 1e7), ("loc 1e6", 1e6, 30.0),
                ("loc -300", -300.0, 0.5)]  # fmt: skip

    def values(m, s):
        if ends:
            return [(f"value {k:g}", k) for k in (0.0, 1.0, 100.0, 127.0, 128.0, 254.0, 255.0)]
        zs = (-12.0, -3.0, -0.4, 0.0, 0.7, 5.0, 40.0)
        ks = sorted({float(math.floor(m + s * z)) for z in zs if abs(s * z) < 1e8} | {0.0, 1.0})
        return [(f"value {k:g}", k) for k in ks]

    outside = [("value 2.5", 2.5), ("value -1e30", -1e30), ("value 1e30", 1e30)]
    points = grid(sets, values) + grid(sets[:2], lambda *p: outside)
    return Rows(points, quantiles(sets), sets if ends else [], [])


def class_sets(form):
    if form == "logits":
        return [("even", 0.0, 0.0, 0.0), ("usual", 0.3, -1.0, 2.0), ("logits 1e4", 1e4, 0.0, -1e4),
                ("logits 100", 100.0, 0.0, -100.0), ("all 1e4", 1e4, 1e4, 1e4 + 1),
                ("logits -1e4", -1e4, -1e4, 0.0), ("logits 20", 20.0, 0.0, 1.0),
                ("class excluded", 0.0, -math.inf, 1.0)]  # fmt: skip
    return [("even", 1.0, 1.0, 1.0), ("usual", 0.2, 0.3, 0.5), ("probs 1e-30", 1e-30, 0.4, 0.6),
            ("probs 0", 0.0, 0.4, 0.6), ("one left", 0.0, 0.0, 1.0),
            ("probs 1e-9", 1.0, 1e-9, 1e-9),
            ("unnormalised 1e30", 1e30, 2e30, 1e29)]  # fmt: skip


def class_pairs(form):
    sets = [s[1:] for s in class_sets(form)]
    couples = [(a, b) for a in sets[1:7] for b in sets[1:4] if not any(
        y == 0 and x > 0 for x, y in zip(a, b, strict=True)) or form == "logits"]  # fmt: skip
    return pairs(*couples)


def categorical(form):
    sets = class_sets(form)
    points = grid(sets, lambda *p: [(f"value {k:g}", k) for k in (0.0, 1.0, 2.0)])
    points += grid(sets[1:3], lambda *p: [("value -1", -1.0), ("value 3", 3.0), ("value 0.5", 0.5)])
    return Rows(points, quantiles(sets[1:4]), sets, class_pairs(form))


def one_hot(form):
    sets = class_sets(form)
    corners = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    points = [(f"{label}; class {i}", *x, *p) for label, *p in sets for i, x in enumerate(corners)]
    return Rows(points, [], sets, class_pairs(form))


def multinomial(form):
    points = []
    for label, *p in class_sets(form):
        for x in ((0.0, 0.0, 0.0), (3.0, 0.0, 0.0), (0.0, 0.0, 4.0), (2.0, 3.0, 5.0),
                  (1e3, 2e3, 5e3), (4e6, 2e6, 1e6)):  # fmt: skip
            points.append((f"{label}; value {x[0]:g}, {x[1]:g}, {x[2]:g}", *x, sum(x), *p))
    return Rows(points, [], [], [])


def dirichlet():
    shapes = [(2.0, 3.0, 4.0), (1e-6, 1e-6, 1e-6), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0),
              (1e4, 2e4, 3e4), (1e8, 1e8, 2e8), (1e8, 1.5, 1e-3), (1e-6, 1.0, 1e4)]  # fmt: skip
    sets = [(f"concentrations {a:g}, {b:g}, {c:g}", a, b, c) for a, b, c in shapes]
    values = [(0.25, 0.25, 0.5), (1e-30, 0.5, 0.5), (0.0, 0.5, 0.5), (0.0, 0.0, 1.0),
              (2.0**-20, 2.0**-20, 1 - 2.0**-19), (0.125, 0.375, 0.5),
              (1e-40, 0.25, 0.75), (0.0, 0.25, 0.75)]  # fmt: skip
    points = [
        (f"{label}; value {x[0]:g}, {x[1]:g}, {x[2]:g}" + ("; subnormal value" * (x[0] == 1e-40)),
         *x, *p) for label, *p in sets for x in values
    ]  # fmt: skip
    couples = pairs(*((a, b) for a in shapes[:7] for b in (shapes[0], shapes[1], shapes[5])))
    return Rows(points, [], sets, couples)


def pair_rows(sets):
    points = []
    for label, m, n, *p in sets:
        for z in (0.0, 1e-3, 1.0, 30.0, 1e4):
            x, y = m + z * p[0], n - 0.5 * z * (p[2] if len(p) == 3 else p[1])
            points.append((f"{label}; z {z:g}", x, y, m, n, *p))
    couples = pairs(*((a[1:], b[1:]) for a in sets[:4] for b in sets[:3]))
    return Rows(points, [], sets, couples)


def full_normal():
    return pair_rows([
        ("usual", 0.0, 1.0, 1.0, 0.5, 2.0), ("standard", 0.0, 0.0, 1.0, 0.0, 1.0),
        ("scale 1e-10", 0.0, 0.0, 1e-10, 0.0, 2e-10), ("scale 1e10", 1.0, 1.0, 1e10, 1e10, 1e10),
        ("scales apart", 0.0, 0.0, 1e-8, 0.0, 1e8), ("nearly singular", 0.0, 0.0, 1.0, 1.0, 1e-6),
        ("loc 1e30", 1e30, 0.0, 1.0, 0.3, 1.0),
    ])  # fmt: skip


def low_rank():
    return pair_rows([
        ("usual", 0.0, 1.0, 1.0, 0.5, 2.0, 1.0), ("no factor", 0.0, 0.0, 0.0, 0.0, 1.0, 1.0),
        ("small diagonal", 0.0, 0.0, 10.0, 10.0, 1e-4, 1e-4),
        ("scale 1e-10", 0.0, 0.0, 1e-10, 2e-10, 1e-20, 1e-20),
        ("scale 1e10", 1.0, 1.0, 1e10, 1e10, 1e18, 1e18),
        ("diagonal 1e-6", 0.0, 0.0, 1.0, 1.0, 1e-6, 1e-6),
    ])  # fmt: skip


def mixture():
    sets = [("usual", 0.0, 1.0, -1.0, 2.0, 1.0, 0.5), ("logits 1e4", 1e4, 0.0, -1.0, 2.0, 1.0, 0.5),
            ("logits -1e4", -1e4, 0.0, -1.0, 2.0, 1.0, 0.5),
            ("scales apart", 0.0, 0.0, 0.0, 0.0, 1e-10, 1e10),
            ("modes apart", 0.0, 0.0, -1e6, 1e6, 1.0, 1.0),
            ("scale 1e30", 0.0, -1.0, 0.0, 1e30, 1e30, 2e30)]  # fmt: skip

    def values(g, h, m, n, s, t):
        at = [("of the first", m + s), ("of the second", n - 0.5 * t), ("between", 0.5 * (m + n))]
        return [*at, ("far below", m - 40 * s), ("far above", n + 40 * t), ("value 1e30", 1e30)]

    return Rows(grid(sets, values), quantiles(sets), sets, [])


COUNTS = {
    "Poisson": poisson,
    "ZeroInflated(Poisson)": zero_inflated,
    "Quantized(Logistic, 0, 255)": lambda: rounded("Logistic", ends=True),
    "Dirichlet": dirichlet,
    "MultivariateNormal": full_normal,
    "LowRankMultivariateNormal": low_rank,
    "MixtureSameFamily(Normal)": mixture,
}
for _law in ("Normal", "Logistic", "Gumbel"):
    COUNTS[f"Quantized({_law})"] = lambda law=_law: rounded(law)
for _form in ("logits", "probs"):
    for _name, _rows in (("Bernoulli", bernoulli), ("Geometric", geometric), ("Binomial", binomial),
                         ("NegativeBinomial", negative_binomial), ("Categorical", categorical),
                         ("OneHotCategorical", one_hot), ("Multinomial", multinomial)):  # fmt: skip
        COUNTS[f"{_name}({_form})"] = lambda rows=_rows, form=_form: rows(form)
