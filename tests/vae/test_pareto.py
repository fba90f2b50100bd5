"""Whether the error of log p(x) may be believed: a posterior whose weights have a known tail.

With two latents and q(z | x) the exact posterior narrowed by a factor s, log w is exponential with
mean 1 - s^2: weights are exactly Pareto with shape k = 1 - s^2.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import vae
from jaxprob.vae import pareto
from tests.vae.linear_gaussian import LOG_MARGINAL, Decoder, Posterior, X

KEY = jax.random.key(0)
tail_shape = jax.jit(pareto.tail_shape)


def model(widen):
    return vae.VAE(Posterior(widen), Decoder(), 2)


@pytest.mark.parametrize("narrow", [0.4, 0.7, 0.9])
def test_the_shape_of_the_tail_is_found(narrow):
    found = vae.log_marginal(model(narrow), {}, X, KEY, 20_000, 5000)
    # the error of k by 425 weights, 5 rows together
    np.testing.assert_allclose(np.mean(found.pareto_k), 1 - narrow**2, atol=0.1)
    assert np.all(found.reliable == (found.pareto_k < 0.7))


def test_bounded_weights_and_equal_ones_are_reliable():
    wide = vae.log_marginal(model(1.6), {}, X, KEY, 2000, 500)
    assert np.all(wide.pareto_k < 0.0)
    assert np.all(wide.reliable)
    # E w^2 = w^4 / (2 w^2 - 1) for two latents of a posterior that is too wide by w
    share = (2 * 1.6**2 - 1) / 1.6**4
    np.testing.assert_allclose(wide.effective_samples, 2000 * share, rtol=0.1)
    exact = vae.log_marginal(model(1.0), {}, X, KEY, 200)
    np.testing.assert_allclose(exact.effective_samples, 200.0, rtol=1e-9)
    assert np.all(exact.reliable)


def test_where_intervals_fail_they_are_said_to():
    """A posterior of a third of the width: 95 % intervals miss the truth, and few are believed."""
    keys = jax.random.split(KEY, 100)
    run = jax.jit(jax.vmap(lambda k: vae.log_marginal(model(0.33), {}, X, k, 200)))
    found = run(keys)
    covered = np.abs(np.asarray(found.value) - LOG_MARGINAL) < 1.96 * np.asarray(
        found.standard_error
    )
    assert covered.mean() < 0.8
    assert np.mean(found.reliable) < 0.25
    good = jax.jit(jax.vmap(lambda k: vae.log_marginal(model(1.3), {}, X, k, 200)))(keys)
    assert np.mean(good.reliable) > 0.95


def test_one_weight_above_all_others():
    """The error saturates at 1 nat; a single effective draw and k far above 0.7 say so."""
    log_w = np.concatenate([[400.0], np.random.default_rng(0).normal(size=999)])
    top = np.sort(log_w)[::-1][: pareto.tail_size(1000) + 1]
    for dtype in (jnp.float32, jnp.float64):
        k = tail_shape(jnp.asarray(top, dtype)[:, None])
        assert np.isfinite(k[0])
        assert k[0] > 0.7
    nothing = tail_shape(jnp.full((20, 1), -jnp.inf))
    assert np.isnan(nothing[0])


def test_the_chunks_change_nothing():
    whole, parts = (vae.log_marginal(model(0.6), {}, X, KEY, 83, size) for size in (83, 10))
    for name in ("value", "standard_error", "effective_samples", "pareto_k"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)


def test_too_few_draws_say_nothing():
    found = vae.log_marginal(model(1.3), {}, X, KEY, 20)
    assert np.all(np.isnan(found.pareto_k))
    assert not np.any(found.reliable)


def test_value_and_error_come_apart_as_before():
    found = vae.log_marginal(model(1.3), {}, X, KEY, 30)
    value, error = found
    np.testing.assert_array_equal(value, found.value)
    np.testing.assert_array_equal(error, found.standard_error)
    assert len(jax.tree.leaves(found)) == 4
    assert isinstance(jax.tree.map(np.asarray, found).value, np.ndarray)


@pytest.mark.parametrize("shape", [-0.4, 0.1, 0.5, 1.2])
def test_a_generalised_pareto_law_by_its_quantiles(shape):
    """Weights at the quantiles of the law, by SciPy: the fit leans on 1/2 by ten observations."""
    size = 2000
    levels = (np.arange(size) + 0.5) / size
    weights = 1.0 + stats.genpareto(shape).ppf(levels)
    top = np.log(np.concatenate([weights[::-1], [1.0]]))
    k = tail_shape(jnp.asarray(top)[:, None])[0]
    np.testing.assert_allclose(k, (size * shape + 5) / (size + 10), atol=0.02)
