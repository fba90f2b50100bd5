"""Calibration measures by hand, by brute force and on simulations whose truth is known."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions import Independent, Normal, Predictive
from jaxprob.metrics import coverage, expected_calibration_error, pit, sharpness

Z90 = scipy.stats.norm.ppf(0.95)


def simulation(rows=4000, seed=0):
    """A heteroscedastic normal truth `[rows, 1]` and targets drawn from it."""
    rng = np.random.default_rng(seed)
    loc, scale = rng.normal(size=(rows, 1)) * 3, rng.uniform(0.1, 2.0, size=(rows, 1))
    return loc, scale, loc + scale * rng.normal(size=(rows, 1))


def mixture_simulation(rows=4000):
    """A mixture over draws and targets drawn from it: pick a draw, then draw from that one."""
    rng = np.random.default_rng(1)
    loc, scale = rng.normal(size=(3, rows, 1)) * 2, rng.uniform(0.3, 1.0, size=(3, rows, 1))
    draw, row = rng.integers(3, size=rows), np.arange(rows)
    y = loc[draw, row] + scale[draw, row] * rng.normal(size=(rows, 1))
    return Predictive(Independent(Normal(loc, scale), 1)), y


def test_coverage_and_sharpness_by_hand():
    predictive = Normal(np.zeros(6), np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]))
    y = np.array([-1.66, 1.63, 0.0, 3.2, -3.3, 3.31])  # the ends are 1.645 and 3.290
    inside = [0, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(coverage(predictive, y, 0.9, per_row=True), inside)
    np.testing.assert_allclose(coverage(predictive, y), 0.5)
    np.testing.assert_allclose(coverage(predictive, y, 0.5), 1 / 6)
    np.testing.assert_allclose(sharpness(predictive), 2 * Z90 * 1.5, rtol=1e-12)
    z50 = scipy.stats.norm.ppf(0.75)
    np.testing.assert_allclose(sharpness(predictive, 0.5), 2 * z50 * 1.5, rtol=1e-12)
    # A target on the end of its interval counts as inside.
    _, upper = predictive.interval(0.9)
    np.testing.assert_allclose(coverage(predictive, upper), 1.0)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_a_calibrated_prediction_covers_what_it_says(level):
    loc, scale, y = simulation()
    standard_error = np.sqrt(level * (1 - level) / len(y))
    covered = coverage(Independent(Normal(loc, scale), 1), y, level)
    assert abs(covered - level) < 3 * standard_error
    # Half the true width is seen at once, with the coverage that theory gives it.
    narrow = 2 * scipy.stats.norm.cdf(scipy.stats.norm.ppf(0.5 + level / 2) / 2) - 1
    covered = coverage(Independent(Normal(loc, 0.5 * scale), 1), y, level)
    assert abs(covered - narrow) < 3 * np.sqrt(narrow * (1 - narrow) / len(y))


def test_a_calibrated_mixture_covers_what_it_says():
    assert abs(coverage(*mixture_simulation(), 0.9) - 0.9) < 3 * np.sqrt(0.9 * 0.1 / 4000)


def test_the_pit_of_a_calibrated_prediction_is_uniform():
    loc, scale, y = simulation()
    ranks = np.asarray(pit(Independent(Normal(loc, scale), 1), y))
    np.testing.assert_allclose(ranks, scipy.stats.norm.cdf(y, loc, scale), rtol=1e-12)
    assert scipy.stats.kstest(ranks.ravel(), "uniform").pvalue > 0.05
    ranks = np.asarray(pit(*mixture_simulation()))
    assert ranks.shape == (4000, 1)
    assert scipy.stats.kstest(ranks.ravel(), "uniform").pvalue > 0.05
    for wrong in (Normal(loc + 0.2 * scale, scale), Normal(loc, 1.3 * scale)):
        ranks = np.asarray(pit(Independent(wrong, 1), y))
        assert scipy.stats.kstest(ranks.ravel(), "uniform").pvalue < 1e-6


def ece_by_brute_force(probs, labels, num_bins):
    """Sum over bins (low, high] of confidence, straight from the definition."""
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    total = 0.0
    for low in range(num_bins):
        member = (confidence > low / num_bins) & (confidence <= (low + 1) / num_bins)
        if member.any():
            gap = abs(right[member].mean() - confidence[member].mean())
            total += member.mean() * gap
    return total


@pytest.mark.parametrize("num_bins", [1, 4, 15])
def test_ece_is_its_definition(num_bins):
    probs = np.random.default_rng(2).dirichlet(np.ones(4), size=300)
    # Right in every second bin, so that gaps of neighbouring bins would cancel.
    right = (probs.max(axis=1) * num_bins).astype(int) % 2
    labels = (probs.argmax(axis=1) + 1 - right) % 4
    truth = ece_by_brute_force(probs, labels, num_bins)
    assert truth > 0.05
    np.testing.assert_allclose(expected_calibration_error(probs, labels, num_bins), truth)
    categorical = distrax.Categorical(probs=probs)
    np.testing.assert_allclose(expected_calibration_error(categorical, labels, num_bins), truth)
    pair = np.stack([1 - probs[:, 0], probs[:, 0]], axis=1)
    truth = ece_by_brute_force(pair, labels % 2, num_bins)
    np.testing.assert_allclose(expected_calibration_error(probs[:, 0], labels % 2, num_bins), truth)


def test_ece_by_hand():
    # Bin (1/2, 3/4]: confidences 0.6 and 0.7, both right: |2 - 1.3|. Bin (3/4, 1]: 0.8 and 1.0,
    # both wrong: |0 - 1.8|. Together (0.7 + 1.8) / 4.
    probs = np.array([[0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.0, 1.0]])
    labels = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(expected_calibration_error(probs, labels, 4), 2.5 / 4)
    # In one bin they cancel: |2 - 3.1|.
    np.testing.assert_allclose(expected_calibration_error(probs, labels, 1), 1.1 / 4)
    certain = np.eye(2)[[0, 1, 1]]
    np.testing.assert_allclose(expected_calibration_error(certain, np.array([0, 1, 1])), 0.0)
    np.testing.assert_allclose(expected_calibration_error(certain, np.array([1, 0, 0])), 1.0)


def test_ece_of_a_simulation():
    rng = np.random.default_rng(3)
    p = rng.uniform(size=20_000)
    labels = (rng.uniform(size=p.size) < p).astype(int)
    # Calibrated: only the noise of 15 bins is left, about 0.4 / sqrt(N / 7.5) on average.
    assert expected_calibration_error(p, labels) < 0.015
    # Overconfident by 0.1 everywhere.
    shifted = np.where(p > 0.5, 0.9 * p + 0.1, 0.9 * p)
    sure = np.maximum(shifted, 1 - shifted) - np.maximum(p, 1 - p)
    found = expected_calibration_error(shifted, labels)
    np.testing.assert_allclose(found, sure.mean(), atol=0.01)


def test_calibration_compiles_and_keeps_float32():
    probs = jnp.asarray([[0.6, 0.4], [0.3, 0.7]], jnp.float32)
    labels = jnp.asarray([0, 0])
    ece = jax.jit(expected_calibration_error)(probs, labels)
    np.testing.assert_allclose(ece, (0.4 + 0.7) / 2, rtol=1e-6)
    assert ece.dtype == jnp.float32
    normal = Normal(jnp.zeros(2, jnp.float32), jnp.ones(2, jnp.float32))
    y = jnp.zeros(2, jnp.float32)
    for value in (coverage(normal, y), sharpness(normal), pit(normal, y)):
        assert value.dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: coverage(Normal(np.zeros((3, 1)), 1.0), np.zeros(3)),
            r"coverage: y has shape \(3,\), but .* shape \(3, 1\). Write y\[:, None\]",
        ),
        (
            lambda: coverage(Normal(np.zeros(3), 1.0), np.zeros(3), 90.0),
            "level must be a probability strictly between 0 and 1; got 90.0. Write 0.9",
        ),
        (
            lambda: coverage(Normal(np.zeros(3), 1.0), np.array([0.0, np.nan, 0.0])),
            r"coverage: y must be a real number \(not NaN\); 1 of 3 .* index \(1,\)",
        ),
        (
            lambda: sharpness(Normal(np.zeros(3), 1.0), 1.0),
            "level must be a probability strictly between 0 and 1; got 1.0",
        ),
        (
            lambda: pit(Normal(np.zeros(3), 1.0), np.zeros(4)),
            r"pit: y has shape \(4,\), but the predictions have shape \(3,\)",
        ),
        (
            lambda: expected_calibration_error(np.full((3, 2), 0.5), np.zeros((3, 1), int)),
            r"probs has shape \(3, 2\) and labels \(3, 1\); expected \[B, K\]",
        ),
        (
            lambda: expected_calibration_error(np.full((3, 2), 0.5), np.zeros(3, int), 0),
            "num_bins must be at least 1; got 0",
        ),
        (
            lambda: expected_calibration_error(np.full(3, 0.5), np.array([0, 1, 2])),
            r"labels must be a class from 0 to 1; 1 of 3 .* index \(2,\): 2",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
