"""Every family against mpmath: densities and their gradients, both tails, quantiles, moments.

An error counts in units of what rounding the arguments alone would do: a density that changes by
100 when its value changes by a factor e cannot keep 100 times the precision of its value.
"""

import functools
import json

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from tests.distributions.families import FAMILIES

# Largest errors, in units of the dtype's rounding of the arguments.
ULPS = {np.float32: 64, np.float64: 256}


def cases(name, count):
    """Random cases `[count]` of value and parameters, all of them float32 numbers."""
    rng = np.random.default_rng(sum(map(ord, name)))
    rows = [FAMILIES[name].draw(rng) for _ in range(count)]
    return [np.float32(column).astype(float) for column in zip(*rows, strict=True)]


def partials(fn, arguments, at):
    """Derivative towards one argument, by central differences with 40 digits."""
    step = mp.mpf(10) ** -16 * max(abs(arguments[at]), mp.mpf(10) ** -10)
    ends = [fn(*arguments[:at], arguments[at] + sign * step, *arguments[at + 1 :])
            for sign in (1, -1)]  # fmt: skip
    return (ends[0] - ends[1]) / (2 * step)


@functools.cache
def truth(name, count, tails):
    """Arrays `[count]`: log_prob, its partial derivatives, both tails, moments; for both dtypes."""
    family = FAMILIES[name]
    out = {}
    for row in zip(*cases(name, count), strict=True):
        row = [mp.mpf(x) for x in row]
        facts = {"log_prob": family.log_prob(*row), **family.facts(*row[1:])}
        for i in range(1 if family.discrete else 0, len(row)):
            if not (name.startswith("Binomial") and i == 1):  # trials are whole numbers
                facts[f"slope {i}"] = partials(family.log_prob, row, i)
        if tails:
            facts["cdf"] = family.cdf(*row)
            facts["survival_function"] = 1 - facts["cdf"]
            if not family.discrete:
                facts["density"] = mp.exp(facts["log_prob"])
        for key, value in facts.items():
            out.setdefault(key, []).append(float(value))
    return {key: np.array(value) for key, value in out.items()}


def computed(name, columns, dtype, wanted, tails):
    """The same by the package."""
    make = FAMILIES[name].make
    columns = [jnp.asarray(c, dtype) for c in columns]

    @jax.jit
    def density_and_slopes(*columns):
        total = jax.grad(lambda x, *p: jnp.sum(make(*p).log_prob(x)), tuple(range(len(columns))))
        return make(*columns[1:]).log_prob(columns[0]), total(*columns)

    log_prob, slopes = density_and_slopes(*columns)
    out = {"log_prob": log_prob, **{f"slope {i}": slope for i, slope in enumerate(slopes)}}
    distribution, x = make(*columns[1:]), columns[0]
    for key in ("mean", "variance", "entropy"):
        if key in wanted:
            out[key] = getattr(distribution, key)()
    if tails:
        out["cdf"], out["survival_function"] = (
            distribution.cdf(x), distribution.survival_function(x),
        )  # fmt: skip
        below = out["cdf"] <= 0.5
        low = distribution.quantile(jnp.where(below, out["cdf"], 0.5))
        high = distribution.inverse_survival_function(
            jnp.where(below, 0.5, out["survival_function"])
        )
        out["quantile"] = jnp.where(below, low, high)
    return {key: np.asarray(value) for key, value in out.items()}


def worst_errors(name, count, dtype, tails=True):
    """Largest error of each quantity, in units of eps times its condition number."""
    family = FAMILIES[name]
    columns = cases(name, count)
    expected = truth(name, count, tails)
    actual = computed(name, columns, dtype, expected, tails)
    eps = np.finfo(dtype).eps
    spread = sum(np.abs(c) * np.abs(expected.get(f"slope {i}", 0)) for i, c in enumerate(columns))
    worst = {}
    for key, want in expected.items():
        if key == "density":
            continue
        got = actual[key].astype(float)
        size = np.abs(want)
        if key == "log_prob":
            size = 1 + size + spread
        elif key in ("cdf", "survival_function"):
            # a tail moves with its arguments about as its logarithm does
            size = size * (1 + spread)
        elif key == "entropy":
            size = 1 + size
        elif key.startswith("slope"):
            column = np.abs(columns[int(key[-1])])
            size = size + (1 + spread) / np.maximum(column, 1e-30)
        else:
            size = size * 4
        big = np.abs(want) > np.finfo(dtype).max
        same = (got == want) | (np.isnan(got) & np.isnan(want)) | (big & ~np.isfinite(got))
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.where(same, 0.0, np.abs(got - want) / np.maximum(size, 1e-300) / eps)
        worst[key] = float(np.max(np.where(np.isnan(error), np.inf, error)))
    if tails:
        x = columns[0]
        gap = np.abs(actual["quantile"] - x)
        if family.discrete:
            worst["quantile"] = float(gap.max())  # integers come back exactly
        else:
            tail = np.minimum(expected["cdf"], expected["survival_function"])
            size = np.abs(x) + tail / expected["density"] * (1 + spread)
            worst["quantile"] = float(np.max(gap / size / eps))
    return worst


# Their tails are integrals, and take seconds to compile: the slow run covers them.
INTEGRATED = ("StudentT", "Gamma", "InverseGamma", "Beta", "VonMises", "Poisson", "ZeroInflated",
              "NegativeBinomial", "NegativeBinomial of logits", "Binomial",
              "Binomial of logits")  # fmt: skip


def assert_small(worst, dtype):
    limits = {
        "log_prob": 16,
        "quantile": 16,
        "cdf": ULPS[dtype] * 4,
        "survival_function": ULPS[dtype] * 4,
    }
    for key, error in worst.items():
        limit = 4 * ULPS[dtype] if key.startswith("slope") else limits.get(key, ULPS[dtype])
        assert error <= limit, f"{key}: {error:.3g} units of rounding, {limit} allowed ({worst})"


QUICK = ("Normal", "LogNormal", "Weibull", "Cauchy", "Gamma", "NegativeBinomial", "Geometric",
         "Transformed")  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_against_mpmath(name):
    assert_small(worst_errors(name, 12, np.float64, tails=name not in INTEGRATED), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", FAMILIES)
def test_200_parameter_sets_against_mpmath(name, dtype, record_property):
    worst = worst_errors(name, 200, dtype)
    record_property("oracle", json.dumps([name, np.dtype(dtype).name, worst]))
    assert_small(worst, dtype)
