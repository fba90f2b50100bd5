"""Poisson draws against SciPy's probabilities."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions.poisson_draws import poisson_draws
from tests.distributions.draws import KEY, require_laws, require_neighbours_stay

SIZE = 40_000


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_draws_follow_the_distribution(dtype):
    rates = np.array([0.0, 1e-3, 0.3, 2.0, 9.99, 10.0, 11.5, 60.0, 3e4])
    found = np.asarray(poisson_draws(KEY, jnp.broadcast_to(jnp.asarray(rates, dtype), (SIZE, 9))))
    assert found.dtype == dtype
    assert (found[:, 0] == 0.0).all()
    require_laws(found[:, 1:], [scipy.stats.poisson(rate) for rate in rates[1:]])


@pytest.mark.slow
def test_the_tail_of_the_inversion_is_not_rounding():
    """Counts that the smallest uniform numbers give, against the exact quantile."""
    rates = jnp.asarray([1e-4, 0.1, 1.0, 5.0, 9.9], jnp.float32)
    found = poisson_draws(KEY, jnp.broadcast_to(rates, (1_000_000, 5)))
    assert (found.max(0) <= scipy.stats.poisson.isf(1e-9, np.asarray(rates))).all()
    assert (found.max(0) >= scipy.stats.poisson.isf(1e-5, np.asarray(rates))).all()


@pytest.mark.slow
def test_large_rates_have_their_mean_and_spread():
    rates = np.array([1e6, 1e9, 1e14])
    found = poisson_draws(KEY, jnp.broadcast_to(jnp.asarray(rates), (SIZE, 3)))
    scores = (np.asarray(found) - rates) / np.sqrt(rates)
    np.testing.assert_allclose(scores.mean(0), 0.0, atol=4 / np.sqrt(SIZE))
    np.testing.assert_allclose(scores.std(0), 1.0, atol=4 / np.sqrt(2 * SIZE))


@pytest.mark.slow  # the mechanism is the gamma's, whose proof is a quick one
def test_an_element_does_not_move_its_neighbours():
    rate = jnp.where(jnp.arange(3000) % 3 == 0, 4.0, 10.0)
    require_neighbours_stay(poisson_draws, rate, 200.0)


def test_what_is_no_rate_gives_no_number_and_ends():
    found = poisson_draws(KEY, jnp.asarray([jnp.nan, -0.5, 0.0, 20.0]))
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()
