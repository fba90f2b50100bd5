"""The distribution that a few quantiles state, against quadrature of its own definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.distributions import InterpolatedQuantiles

LEVELS = np.array([0.1, 0.4, 0.5, 0.95])
VALUES = np.array([[-1.0, 0.5, 0.6, 4.0], [10.0, 10.1, 12.0, 12.5]])
DISTRIBUTION = InterpolatedQuantiles(LEVELS, VALUES)


def pieces(row):
    v = VALUES[row]
    return [(-200.0, v[0]), *zip(v[:-1], v[1:], strict=True), (v[-1], v[-1] + 300.0)]


@pytest.mark.parametrize("row", [0, 1])
def test_moments_and_cdf_are_integrals(row):
    one = DISTRIBUTION[row]
    density = jax.jit(one.prob)
    mass, total, square, entropy = 0.0, 0.0, 0.0, 0.0
    for (low, high), expected in zip(pieces(row), [0.1, 0.3, 0.1, 0.45, 0.05], strict=True):
        x, w = np.polynomial.legendre.leggauss(400)
        x, w = (low + high) / 2 + (high - low) / 2 * x, w * (high - low) / 2
        p = np.asarray(density(x))
        assert np.sum(w * p) == pytest.approx(expected, rel=1e-9)
        mass += np.sum(w * p)
        total += np.sum(w * p * x)
        square += np.sum(w * p * x**2)
        entropy -= np.sum(w * np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0))
        assert float(one.cdf(high)) == pytest.approx(mass, rel=1e-9)
    assert float(one.mean()) == pytest.approx(total, rel=1e-9)
    assert float(one.variance()) == pytest.approx(square - total**2, rel=1e-8)
    assert float(one.entropy()) == pytest.approx(entropy, rel=1e-8)


def test_quantiles_are_those_stated_and_invert_the_cdf():
    for i, level in enumerate(LEVELS):
        np.testing.assert_allclose(DISTRIBUTION.quantile(level), VALUES[:, i], rtol=1e-12)
    x = np.linspace(-8.0, 30.0, 77)[:, None] + np.zeros(2)
    inside = DISTRIBUTION.cdf(x)
    back = np.where(
        np.asarray(inside) < 0.5,
        DISTRIBUTION.quantile(inside),
        DISTRIBUTION.inverse_survival_function(DISTRIBUTION.survival_function(x)),
    )
    shown = (np.asarray(DISTRIBUTION.survival_function(x)) > 1e-280) & (np.asarray(inside) > 1e-280)
    np.testing.assert_allclose(back[shown], x[shown], rtol=1e-9)
    np.testing.assert_allclose(inside + DISTRIBUTION.survival_function(x), 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.exp(DISTRIBUTION.log_cdf(x)), inside, rtol=1e-12)


def test_gradients_and_transformations():
    def loss(values, y):
        return InterpolatedQuantiles(LEVELS, values).log_prob(y).sum()

    y = np.array([0.2, 13.0])
    slope = jax.grad(loss)(jnp.asarray(VALUES), y)
    for i in range(4):
        step = np.zeros_like(VALUES)
        step[:, i] = 1e-6
        expected = (loss(VALUES + step, y) - loss(VALUES - step, y)) / 2e-6
        assert float(slope[:, i].sum()) == pytest.approx(float(expected), abs=1e-7)
    both = jax.vmap(lambda v: InterpolatedQuantiles(LEVELS, v))(jnp.asarray(VALUES))
    np.testing.assert_allclose(both.log_prob(y), DISTRIBUTION.log_prob(y))
    assert both.batch_shape == (2,)
    np.testing.assert_allclose(jax.jit(lambda d: d.mean())(both), DISTRIBUTION.mean())


def test_draws_have_the_stated_quantiles():
    draws = np.asarray(DISTRIBUTION.sample(seed=jax.random.key(0), sample_shape=(20_000,)))
    for i, level in enumerate(LEVELS):
        share = (draws <= VALUES[:, i]).mean(0)
        assert (np.abs(share - level) < 4 * np.sqrt(level * (1 - level) / 20_000)).all()


@pytest.mark.parametrize(
    ("levels", "values", "message"),
    [
        ([0.5], [1.0], "at least two"),
        ([0.5, 0.4], [1.0, 2.0], "levels must be a strictly increasing"),
        ([0.4, 0.5], [2.0, 2.0], "values must be a strictly increasing"),
        ([0.4, 1.5], [1.0, 2.0], "levels must be"),
        ([0.1, 0.2, 0.3], [1.0, 2.0], "do not broadcast"),
    ],
)
def test_errors(levels, values, message):
    with pytest.raises(ValueError, match=message):
        InterpolatedQuantiles(levels, values)
