"""Every family over vectors against mpmath: densities, their gradients, moments, entropy.

Errors count as in `test_oracle`: in units of what rounding the arguments alone would do.
"""

import json

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from tests.distributions.vector_families import VECTOR_FAMILIES
from tests.support.compilation import to_the_bit

LIMIT = 64  # units of rounding


def cases(name, count):
    """Random cases: columns `[count, ...]` of the value and the parameters, float32 numbers."""
    rng = np.random.default_rng(sum(map(ord, name)))
    rows = [VECTOR_FAMILIES[name].draw(rng) for _ in range(count)]
    return [np.stack(column).astype(np.float32).astype(float)
            for column in zip(*rows, strict=True)]  # fmt: skip


def exact(array):
    """An array of 40-digit numbers."""
    array = np.asarray(array)
    return np.frompyfunc(mp.mpf, 1, 1)(array) if array.ndim else mp.mpf(float(array))


def partials(fn, arguments, at):
    """Slopes towards one argument, by central differences with 40 digits."""
    argument = np.asarray(arguments[at], dtype=object)
    slopes = np.empty(argument.shape, dtype=float)
    for index in np.ndindex(argument.shape):
        step = mp.mpf(10) ** -16 * max(abs(argument[index]), mp.mpf(10) ** -10)
        ends = []
        for sign in (1, -1):
            moved = argument.copy()
            moved[index] = argument[index] + sign * step
            ends.append(fn(*arguments[:at], moved[()], *arguments[at + 1 :]))
        slopes[index] = float((ends[0] - ends[1]) / (2 * step))
    return slopes


def truth(name, columns):
    family = VECTOR_FAMILIES[name]
    out = {}
    for row in zip(*columns, strict=True):
        row = [exact(entry) for entry in row]
        facts = {"log_prob": family.log_prob(*row), **family.facts(*row[1:])}
        for i in range(len(row)):
            if i not in family.constant:
                facts[f"slope {i}"] = partials(family.log_prob, row, i)
        for key, value in facts.items():
            out.setdefault(key, []).append(np.asarray(value, dtype=float))
    return {key: np.stack(value) for key, value in out.items()}


def computed(name, columns, dtype, wanted):
    family = VECTOR_FAMILIES[name]
    columns = [jnp.asarray(c, dtype) for c in columns]
    moving = tuple(i for i in range(len(columns)) if i not in family.constant)

    @to_the_bit  # rounding is what is measured
    def density_and_slopes(*columns):
        def total(*columns):
            return jnp.sum(family.make(*columns[1:]).log_prob(columns[0]))

        return family.make(*columns[1:]).log_prob(columns[0]), jax.grad(total, moving)(*columns)

    log_prob, slopes = density_and_slopes(*columns)
    distribution = family.make(*columns[1:])
    out = {"log_prob": log_prob}
    out.update({f"slope {i}": slope for i, slope in zip(moving, slopes, strict=True)})
    for key in ("mean", "variance", "covariance", "entropy"):
        if key in wanted:
            out[key] = getattr(distribution, key)()
    return {key: np.asarray(value, dtype=float) for key, value in out.items()}


def worst_errors(name, count, dtype):
    """Largest error of each quantity, in units of eps times its condition number."""
    columns = cases(name, count)
    expected = truth(name, columns)
    actual = computed(name, columns, dtype, expected)

    def per_case(array):
        return np.abs(array).reshape(count, -1).sum(-1)

    spread = sum(
        per_case(column * expected[f"slope {i}"])
        for i, column in enumerate(columns) if f"slope {i}" in expected
    )  # fmt: skip
    worst = {}
    for key, want in expected.items():
        shape = (count,) + (1,) * (want.ndim - 1)
        if key in ("log_prob", "entropy"):
            size = 1 + np.abs(want) + spread
        elif key.startswith("slope"):
            column = np.abs(columns[int(key[-1])]).reshape(count, -1).max(-1).reshape(shape)
            size = np.abs(want) + (1 + spread).reshape(shape) / np.maximum(
                np.abs(columns[int(key[-1])]), 1e-3 * column
            )
        else:
            largest = np.abs(want).reshape(count, -1).max(-1).reshape(shape)
            size = 4 * (np.abs(want) if key == "variance" else largest)
        error = np.abs(actual[key] - want) / size / np.finfo(dtype).eps
        worst[key] = float(np.max(np.where(np.isnan(error), np.inf, error)))
    return worst


def assert_small(worst):
    for key, error in worst.items():
        assert error <= LIMIT, f"{key}: {error:.3g} units of rounding, {LIMIT} allowed ({worst})"


@pytest.mark.parametrize("name", ["MultivariateNormal", "Dirichlet"])
def test_against_mpmath(name):
    assert_small(worst_errors(name, 6, np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", VECTOR_FAMILIES)
def test_200_parameter_sets_against_mpmath(name, dtype, record_property):
    worst = worst_errors(name, 200, dtype)
    record_property("oracle", json.dumps([name, np.dtype(dtype).name, worst]))
    assert_small(worst)
