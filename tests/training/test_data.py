"""The order of an epoch: a faster way to the same numbers."""

import jax
import numpy as np
import pytest

from jaxprob.training.data import permutation


@pytest.mark.parametrize("x64", [False, True])
def test_permutation_is_jaxs_to_the_bit(x64):
    """One sort below 1626 rows, two from there on."""
    keys = jax.random.split(jax.random.key(3), 4)
    with jax.enable_x64(x64):
        for rows in (1, 7, 1625, 5000):
            ours = jax.jit(jax.vmap(lambda key, n=rows: permutation(key, n)))(keys)
            theirs = jax.jit(jax.vmap(lambda key, n=rows: jax.random.permutation(key, n)))(keys)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
