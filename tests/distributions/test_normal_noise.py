"""Noise in one flat loop is the noise of jax.random, bit by bit."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.distributions import MultivariateNormal
from jaxprob.distributions.gradients import normal_noise

KEY = jax.random.key(3)


@pytest.mark.parametrize("shape", [(5,), (1, 6), (40, 3), (2, 7, 10), (2, 0, 3), (3, 40)])
def test_it_is_the_noise_of_jax(shape):
    expected = jax.random.normal(KEY, shape, jnp.float32)
    np.testing.assert_array_equal(normal_noise(KEY, shape, jnp.float32), expected)


def test_keys_under_vmap():
    keys = jax.random.split(KEY, 3)
    found = jax.vmap(lambda key: normal_noise(key, (4, 5), jnp.float64))(keys)
    expected = jax.vmap(lambda key: jax.random.normal(key, (4, 5), jnp.float64))(keys)
    np.testing.assert_array_equal(found, expected)


def test_the_compiled_loop_is_flat():
    """No logarithm of the inverse error function runs over the events."""

    def logarithms(draw) -> set[str]:
        program = jax.jit(draw).lower(KEY).compile().as_text()
        return set(re.findall(r"f64(\[[0-9,]*\])\S* log(?:-plus-one)?\(", program))

    loc, scale_tril = jnp.zeros(10), jnp.eye(10)
    drawn = logarithms(lambda key: MultivariateNormal(loc, scale_tril).sample(
        seed=key, sample_shape=300))  # fmt: skip
    assert drawn == {"[3000]"}
