"""The data sets: what they hold, and the law of the generated one."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxprob import datasets

ALL = {
    "motorcycle": (datasets.motorcycle, (133, 1), (133, 1)),
    "earthquakes": (datasets.earthquakes, (107, 1), (107, 1)),
    "diabetes": (datasets.diabetes, (442, 10), (442, 1)),
    "quintic": (lambda: datasets.quintic(jax.random.key(0)), (500, 1), (500, 1)),
}


@pytest.mark.parametrize("name", ALL)
def test_shapes_dtypes_and_words(name):
    load, x_shape, y_shape = ALL[name]
    data = load()
    assert (data.x.shape, data.y.shape) == (x_shape, y_shape)
    assert data.x.dtype == data.y.dtype == np.float32
    assert np.isfinite(data.x).all()
    assert np.isfinite(data.y).all()
    for words in (data.x_label, data.y_label, data.source):
        assert words.strip()
    np.testing.assert_array_equal(load().x, data.x)
    np.testing.assert_array_equal(load().y, data.y)


def test_motorcycle_is_silvermans_table():
    data = datasets.motorcycle()
    first, last = [[2.4, 0.0], [2.6, -1.3], [3.2, -2.7]], [[55.0, 10.7], [55.4, -2.7], [57.6, 10.7]]
    table = np.concatenate([data.x, data.y], axis=1)
    np.testing.assert_allclose(table[:3], first, rtol=1e-6)
    np.testing.assert_allclose(table[-3:], last, rtol=1e-6)
    # The summary that R prints for MASS::mcycle.
    quartiles = [0, 25, 50, 75, 100]
    np.testing.assert_allclose(
        np.percentile(data.x, quartiles), [2.4, 15.6, 23.4, 34.8, 57.6], rtol=1e-6
    )
    np.testing.assert_allclose(
        np.percentile(data.y, quartiles), [-134.0, -54.9, -13.3, 0.0, 75.0], rtol=1e-6
    )
    np.testing.assert_allclose(table.mean(axis=0), [25.18, -25.55], atol=0.005)
    assert np.all(np.diff(data.x[:, 0]) >= 0)
    assert (data.x_label, data.y_label) == ("time after impact (ms)", "head acceleration (g)")
    assert "Silverman" in data.source


def test_diabetes_is_in_its_own_units():
    data = datasets.diabetes()
    assert (data.y.min(), data.y.max()) == (25.0, 346.0)
    assert (data.x[:, 0].min(), data.x[:, 0].max()) == (19.0, 79.0)  # years
    assert "Efron" in data.source


def test_the_law_of_the_quintic():
    x, y = (v[:, 0].astype(float) for v in datasets.quintic(jax.random.key(1), 4000)[:2])
    assert scipy.stats.kstest(x, scipy.stats.uniform(-1, 2).cdf).pvalue > 0.05
    noise = (y - x**5) / (0.4 * x)
    assert scipy.stats.kstest(noise, "norm").pvalue > 0.05
    # Standard normal at small |x| as at large: the standard deviation is 0.4 |x| everywhere.
    for part in np.array_split(noise[np.argsort(np.abs(x))], 4):
        assert abs(part.std() - 1) < 3 / np.sqrt(2 * len(part))
        assert abs(part.mean()) < 3 / np.sqrt(len(part))
    assert abs(np.corrcoef(noise, x)[0, 1]) < 3 / np.sqrt(len(x))


def test_the_quintic_depends_on_its_key_and_its_number_of_rows():
    data = datasets.quintic(jax.random.key(2), num_rows=7)
    assert data.x.shape == (7, 1)
    assert not np.any(data.x == datasets.quintic(jax.random.key(3), num_rows=7).x)
    assert "x^5" in data.source
