"""Every family at its extremes: values, tails, quantiles, moments, divergences and gradients.

The right digits stand in `digits/`; `compute.py` makes them from the textbook formulas. A gradient
at an end of the support is the one-sided derivative from inside, and 0 outside.
"""

import numpy as np
import pytest

from tests.extremes.compute import compute
from tests.extremes.known import NAN, OUT, SLACK
from tests.extremes.laws_of_counts import all_laws
from tests.extremes.summary import record_shares
from tests.extremes.table import LAWS, methods_of, rows_of_law, stored

# These compile longest; float64 has the same formulas and other constants.
LONG = ("StudentT", "Gamma", "InverseGamma", "Beta", "Poisson", "ZeroInflated(Poisson)",
        "Binomial(logits)", "Binomial(probs)", "NegativeBinomial(logits)",
        "NegativeBinomial(probs)", "Quantized(Logistic, 0, 255)")  # fmt: skip
CASES = [
    pytest.param(
        law, dtype, id=f"{law}-{dtype}",
        marks=[pytest.mark.slow(5)] if dtype == "float64" or law in LONG else [],
    )
    for law in LAWS
    for dtype in ("float32", "float64")
]  # fmt: skip


@pytest.mark.parametrize(("law", "dtype"), CASES)
def test_no_more_rows_are_out_than_are_listed(law, dtype, record_property):
    rows = list(rows_of_law(law, dtype))
    record_shares(record_property, rows)
    nan = [row for row in rows if np.isnan(row.got) and not row.right]
    out = [row for row in rows if not row.right]
    place = ("float32", "float64").index(dtype)
    assert len(nan) <= NAN.get(law, (0, 0))[place], f"{len(nan)} NaN:\n{_lines(nan)}"
    most = OUT.get(law, (0, 0))[place] + SLACK
    assert len(out) <= most, f"{len(out)} of {len(rows)}, most {most}:\n{_lines(out)}"


def test_every_law_has_digits():
    assert set(LAWS) == set(all_laws())
    assert all(set(stored(law)) == {"law", "float32", "float64"} for law in LAWS)


@pytest.mark.parametrize("law", ["Normal", "Exponential", "Geometric(probs)", "Uniform"])
def test_stored_digits_are_those_that_are_computed(law):
    assert stored(law)["float32"] == compute(law, "float32")


@pytest.mark.parametrize("law", [law for law in LAWS if "d cdf / d value" in methods_of(law)])
def test_stored_slope_of_the_cdf_is_the_density(law):
    points = stored(law)["float64"]["points"]["methods"]
    columns = (points[method][0] for method in ("d cdf / d value", "log_prob", "cdf"))
    pairs = [
        (float(slope), float(density))
        for slope, density, cdf in zip(*columns, strict=True)
        if slope != "any" and abs(float(density)) < 600 and cdf not in ("0.0", "1.0")
    ]
    assert pairs
    for slope, density in pairs:
        error = abs(slope - np.exp(density))
        assert error <= 1e-15 * (10 + abs(density)) * np.exp(density), (slope, density)


def test_what_is_listed_exists():
    assert {*OUT, *NAN} <= set(LAWS)


def _lines(rows, most=40):
    """Some rows, each with its arguments."""
    lines = [
        f"  {row.method} at {row.extreme}: {row.got!r}, right {row.value!r} +- {row.bound:.1e}  "
        f"({', '.join(f'{name} {value}' for name, value in row.columns.items())})"
        for row in rows[:most]
    ]
    return "\n".join(lines)
