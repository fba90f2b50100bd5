"""Binomial draws against SciPy's probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions import Binomial, Multinomial
from jaxprob.distributions.binomial_draws import _log_density, binomial_draws
from tests.distributions.draws import KEY, require_laws, require_neighbours_stay

SIZE = 20_000
# Both methods, both outcomes the rarer one, and where one method takes over from the other.
CASES = [(1, 0.3), (3, 0.5), (7, 0.9), (19, 0.5), (20, 0.5), (25, 0.63), (40, 0.24), (40, 0.26),
         (1000, 0.002), (1000, 0.997), (10**6, 3e-6), (10**6, 0.3), (10**6, 0.5)]  # fmt: skip
HUGE = [(10**9, 3e-9), (10**9, 2e-8), (10**9, 0.4)]


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_draws_follow_the_distribution(dtype):
    cases = CASES if dtype == "float32" else CASES + HUGE
    n, p = np.array(cases).T
    shape = (SIZE, len(cases))
    arrays = (jnp.broadcast_to(jnp.asarray(a, dtype), shape) for a in (n, p, 1.0 - p))
    found = binomial_draws(KEY, *arrays)
    assert found.dtype == dtype
    assert bool(jnp.all((found >= 0) & (found <= n[None]) & (found == jnp.floor(found))))
    require_laws(found, [scipy.stats.binom(n, p) for n, p in cases])


@pytest.mark.parametrize(("n", "r"), [(20, 0.5), (1000, 0.02)])
def test_the_density_of_the_test_is_exact(n, r):
    k = np.unique(np.linspace(0, n, 21).round())
    found = jax.jit(_log_density)(jnp.asarray(k), jnp.asarray(float(n)), jnp.asarray(r))
    np.testing.assert_allclose(found, scipy.stats.binom.logpmf(k, n, r), rtol=1e-12, atol=1e-12)


@pytest.mark.slow  # the mechanism is the gamma's, whose proof is a quick one
def test_an_element_does_not_move_its_neighbours():
    n = jnp.where(jnp.arange(600) % 3 == 0, 10.0, 60.0)
    p = jnp.full(600, 0.4)
    require_neighbours_stay(lambda key, n: binomial_draws(key, n, p, 1.0 - p), n, 2000.0)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_the_ends_are_sure_and_what_is_no_number_ends(dtype):
    nan, inf = jnp.nan, jnp.inf
    rows = [  # trials, p, q, what is drawn
        (0.0, 0.4, 0.6, 0.0), (5.0, 0.0, 1.0, 0.0), (5.0, 1.0, 0.0, 5.0), (1e9, 0.0, 1.0, 0.0),
        (1e9, 1.0, 0.0, 1e9), (1e9, 1e-30, 1.0, 0.0), (1e9, 1.0, 1e-30, 1e9), (nan, 0.4, 0.6, nan),
        (inf, 0.4, 0.6, nan), (inf, 0.0, 1.0, nan), (2.5, 0.4, 0.6, nan), (-3.0, 0.4, 0.6, nan),
        (50.0, nan, nan, nan), (5.0, nan, nan, nan), (50.0, 1.5, -0.5, nan), (50.0, inf, -inf, nan),
    ]  # fmt: skip
    n, p, q, expected = jnp.asarray(rows, dtype).T
    np.testing.assert_array_equal(binomial_draws(KEY, n, p, q), expected)


@pytest.mark.slow
def test_rare_failures_keep_their_digits():
    """At logits of 16.5 the difference 1 - p is 13 % too small in float32."""
    logits = jnp.full((3000, 1), 16.5, jnp.float32)
    failures = 2.0**24 - Binomial(2.0**24, logits=logits).sample(seed=KEY)
    require_laws(failures, [scipy.stats.binom(2**24, 1.0 / (1.0 + np.exp(16.5)))])


@pytest.mark.slow
def test_counts_of_classes_are_binomial_and_sum_to_the_trials():
    probs = np.array([0.2, 0.0, 0.5, 0.3, 0.0])
    found = np.asarray(Multinomial(30.0, probs=probs).sample(seed=KEY, sample_shape=SIZE))
    np.testing.assert_array_equal(found.sum(-1), 30.0)
    assert (found[:, [1, 4]] == 0.0).all()
    require_laws(found[:, [0, 2, 3]], [scipy.stats.binom(30, p) for p in (0.2, 0.5, 0.3)])
    both = found[:, 0] + found[:, 2]
    require_laws(both[:, None], [scipy.stats.binom(30, 0.7)])


def test_the_slope_of_a_draw_is_zero():
    slope = jax.grad(lambda p: jnp.sum(Binomial(30.0, probs=p).sample(seed=KEY)))(jnp.full(5, 0.4))
    np.testing.assert_array_equal(slope, 0.0)
