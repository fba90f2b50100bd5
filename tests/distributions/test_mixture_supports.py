"""Mixtures whose components have supports of their own: an event of any of them is an event."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from jaxprob import distributions as jd

EVEN = distrax.Categorical(logits=jnp.zeros(2))
COUNTS = np.array([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]])
MULTINOMIALS = jd.MixtureSameFamily(EVEN, jd.Multinomial(4, probs=jnp.asarray(COUNTS)))
BINOMIALS = jd.MixtureSameFamily(EVEN, jd.Binomial(jnp.array([3, 8]), probs=jnp.full(2, 0.5)))


@pytest.mark.parametrize("value", [[1.0, 2.0, 1.0], [[1.0, 2.0, 1.0], [4.0, 0.0, 0.0]]])
def test_vectors_of_counts(value):
    density = sum(0.5 * st.multinomial(4, p).pmf(value) for p in COUNTS)
    np.testing.assert_allclose(MULTINOMIALS.log_prob(jnp.array(value)), np.log(density), rtol=1e-12)


@pytest.mark.parametrize("value", [[1.0, 2.0, 2.0], [[1.0, 2.0, 1.0], [4.0, 0.0, 1.0]]])
def test_a_vector_of_another_total_is_refused(value):
    with pytest.raises(ValueError, match="MixtureSameFamily: value must be a vector of counts"):
        MULTINOMIALS.log_prob(jnp.array(value))


def test_counts_that_only_one_component_reaches():
    values = np.arange(9)
    density = 0.5 * st.binom(3, 0.5).pmf(values) + 0.5 * st.binom(8, 0.5).pmf(values)
    np.testing.assert_allclose(BINOMIALS.log_prob(values), np.log(density), rtol=1e-12)
    with pytest.raises(ValueError, match="value must be"):
        BINOMIALS.log_prob(9)


def test_intervals_apart_and_their_own_draws():
    def mixture(low):
        return jd.MixtureSameFamily(EVEN, jd.Uniform(low, low + 1.0))

    low = jnp.array([0.0, 10.0])
    draws = mixture(low).sample(seed=jax.random.key(0), sample_shape=(50,))
    np.testing.assert_allclose(mixture(low).log_prob(draws), np.log(0.5), rtol=1e-12)
    slope = jax.grad(lambda low: mixture(low).log_prob(jnp.array(0.5)))(low)
    np.testing.assert_array_equal(slope, 0.0)
    with pytest.raises(ValueError, match="between low and high"):
        mixture(low).log_prob(5.0)
