"""The rational-quadratic spline against its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.flows.splines import MIN_SHARE, MIN_SLOPE, knots, num_parameters, rational_quadratic
from tests.flows.cases import compiled

BINS, BOUND = 5, 2.5
RAW = np.random.default_rng(1).normal(size=num_parameters(BINS))
GRID = np.linspace(-3.5, 3.5, 701)


def both_ways(x, raw):
    """Values, log-slopes and derivatives at points of one spline, forwards and backwards.

    One program for all tests: fewer points are repeated.
    """
    out = measure(np.resize(x, GRID.size), raw)
    return {name: np.asarray(a)[..., : len(x)] for name, a in out.items() if name != "gradients"}


@compiled
def measure(x, raw):
    """The same, and gradients towards the parameters, of as many points as the grid has."""
    many = jnp.broadcast_to(raw, (*x.shape, *raw.shape))
    y, log_slope = rational_quadratic(x, many, BOUND)
    back, log_slope_back = rational_quadratic(y, many, BOUND, inverse=True)
    slope = jax.grad(lambda x: jnp.sum(rational_quadratic(x, many, BOUND)[0]))(x)
    slope_back = jax.grad(lambda y: jnp.sum(rational_quadratic(y, many, BOUND, True)[0]))(y)
    gradients = [
        jax.grad(lambda r, i=i: sum(jnp.sum(a) for a in rational_quadratic(x, r, BOUND, i)))(many)
        for i in (False, True)
    ]
    return {
        "y": y, "log_slope": log_slope, "back": back, "log_slope_back": log_slope_back,
        "slope": slope, "slope_back": slope_back, "gradients": jnp.stack(gradients),
    }  # fmt: skip


def test_curve():
    out = {name: np.asarray(a) for name, a in both_ways(GRID, RAW).items()}
    assert (np.diff(out["y"]) > 0).all()
    outside = np.abs(GRID) >= BOUND
    assert (out["y"][outside] == GRID[outside]).all()
    assert (out["log_slope"][outside] == 0.0).all()
    np.testing.assert_allclose(out["back"], GRID, atol=1e-12)
    np.testing.assert_allclose(np.exp(out["log_slope"]), out["slope"], rtol=1e-11)
    np.testing.assert_allclose(np.exp(out["log_slope_back"]), out["slope_back"], rtol=1e-11)
    np.testing.assert_allclose(out["log_slope_back"], -out["log_slope"], atol=1e-11)


def test_knots():
    """Values and slopes at the knots, met from both sides; the ends join the straight tails."""
    spline = knots(jnp.asarray(RAW), BOUND)
    x, y, slope = (np.asarray(a) for a in spline)
    assert x[0] == y[0] == -BOUND
    assert x[-1] == y[-1] == BOUND
    assert slope[0] == slope[-1] == 1.0
    assert len(x) == BINS + 1
    for side in (-1e-9, 0.0, 1e-9):
        out = both_ways(x + side, RAW)
        np.testing.assert_allclose(out["y"], y + side * slope, atol=1e-14)
        np.testing.assert_allclose(np.exp(out["log_slope"]), slope, rtol=1e-6)
        np.testing.assert_allclose(out["back"], x + side, atol=1e-14)


def test_interior_follows_the_published_formula():
    """Durkan et al., equations 4 and 5, written for one point."""
    x, y, d = (np.asarray(a) for a in knots(jnp.asarray(RAW), BOUND))
    points = np.array([-2.0, -0.3, 0.9, 2.2])
    out = both_ways(points, RAW)
    for i, at in enumerate(points):
        k = np.searchsorted(x, at) - 1
        s, xi = (y[k + 1] - y[k]) / (x[k + 1] - x[k]), (at - x[k]) / (x[k + 1] - x[k])
        mixed = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
        value = y[k] + (y[k + 1] - y[k]) * (s * xi**2 + d[k] * xi * (1 - xi)) / mixed
        slope = s**2 * (d[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + d[k] * (1 - xi) ** 2) / mixed**2
        found = [out["y"][i], np.exp(out["log_slope"][i])]
        np.testing.assert_allclose(found, [value, slope], rtol=1e-12)


def test_zeros_are_the_identity():
    out = both_ways(GRID, np.zeros_like(RAW))
    np.testing.assert_allclose(out["y"], GRID, atol=1e-14)
    np.testing.assert_allclose(out["log_slope"], 0.0, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_extreme_parameters_stay_finite_and_invertible(dtype):
    """Bins and slopes at their floors beside steep ones; points in the bins, at knots, in tails."""
    raw = np.array([0, 20, 0, -20, 19, 8, -20, 8, 8, 0, -30, 30, -30, 30], dtype)
    x, y, slope = (np.asarray(a) for a in knots(jnp.asarray(raw), BOUND))
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) > 0).all()
    floor = 2 * BOUND * MIN_SHARE
    assert min(np.diff(x).min(), np.diff(y).min()) == pytest.approx(floor, rel=1e-2)
    assert slope.min() == pytest.approx(MIN_SLOPE, rel=1e-2)
    points = np.sort(np.concatenate([GRID[: -len(x)].astype(dtype), x]))
    out = measure(points, raw)
    assert all(np.isfinite(a).all() for a in out.values())
    assert out["y"].dtype == dtype
    assert (np.diff(out["y"]) >= 0).all()
    # Where the curve is nearly level, x is only known to the rounding of y over the slope.
    error = np.abs(np.asarray(out["back"] - points))
    slack = np.finfo(dtype).eps * BOUND * (1 + np.exp(-np.asarray(out["log_slope"])))
    assert (error <= 8 * slack).all()
