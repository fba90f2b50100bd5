"""Law 8: jit and vmap never change an answer, for every distribution that the package returns."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.contracts.cases import RETURNED

SHIFTS = jnp.array([0.3, -0.7])
NESTED = jnp.array([[0.3, -0.7], [1.1, 0.2]])


def facts(distribution):
    """Numbers that describe a distribution: density at its mean, moments, a quantile."""
    mean = distribution.mean()
    out = {
        "mean": mean,
        "variance": distribution.variance(),
        "log_prob": distribution.log_prob(mean + 0.1),
        "upper": distribution.quantile(0.9),
        "above": distribution.prob_above(0.2),
    }
    try:
        out["entropy"] = distribution.entropy()
    except NotImplementedError:  # mixtures have none in closed form
        out["entropy"] = jnp.zeros(distribution.batch_shape)
    return out


jitted_facts = jax.jit(facts)


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def expected_of(make, shifts):
    """The facts of one distribution after the other."""
    return stacked([jitted_facts(compiled(make)(shift)) for shift in shifts])


def assert_same(actual, expected):
    chex.assert_trees_all_close(actual, expected, rtol=1e-9, atol=1e-12)


LONG = ("BayesianMLP", "MixtureSameFamily of vectors", "Independent of vectors")
"""Makers whose like is among the quick tests."""


@pytest.fixture(
    params=[pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in RETURNED]
)
def make(request):
    return RETURNED[request.param]


@functools.cache
def compiled(make):
    """The maker as a program, which gives what it gives eagerly: see `test_out_of_jit`."""
    return jax.jit(make)


def test_out_of_jit(make):
    eager, jitted = make(0.3), compiled(make)(0.3)
    assert (jitted.batch_shape, jitted.event_shape) == (eager.batch_shape, eager.event_shape)
    assert_same(jitted_facts(jitted), jitted_facts(eager))
    assert repr(jitted) == repr(eager)


def test_into_jit(make):
    distribution = compiled(make)(0.3)
    assert_same(jitted_facts(distribution), facts(distribution))


def test_out_of_vmap(make):
    one, many = compiled(make)(0.3), jax.vmap(make)(SHIFTS)
    assert many.batch_shape == (len(SHIFTS), *one.batch_shape)
    assert many.event_shape == one.event_shape
    # its methods, called outside of vmap, treat the new axis as one more batch axis
    assert_same(jitted_facts(many), expected_of(make, SHIFTS))


def test_into_vmap(make):
    many = jax.jit(jax.vmap(make))(SHIFTS)
    assert_same(jax.jit(jax.vmap(facts))(many), expected_of(make, SHIFTS))


def test_nested_vmap(make):
    one, many = compiled(make)(0.3), jax.jit(jax.vmap(jax.vmap(make)))(NESTED)
    assert many.batch_shape == (*NESTED.shape, *one.batch_shape)
    expected = [expected_of(make, row) for row in NESTED]
    assert_same(jax.jit(jax.vmap(jax.vmap(facts)))(many), stacked(expected))


def test_tree_map(make):
    distribution = compiled(make)(0.3)
    doubled = jax.tree.map(lambda leaf: leaf, distribution)
    assert_same(jitted_facts(doubled), jitted_facts(distribution))


def test_gradient_matches_finite_differences(make):
    @jax.jit
    def total(shift):
        distribution = make(shift)
        value = jnp.full(distribution.batch_shape + distribution.event_shape, 0.4)
        return jnp.sum(distribution.log_prob(value))

    h = 1e-6
    numeric = (total(0.3 + h) - total(0.3 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(total)(0.3), numeric, rtol=1e-6, atol=1e-7)


def test_one_trace(make):
    traces = []

    @jax.jit
    def density(distribution):
        traces.append(1)
        return distribution.log_prob(distribution.mean())

    density(make(0.3))
    density(make(-0.7))
    assert len(traces) == 1


def test_sampling_under_vmap_and_jit(make):
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.jit(jax.vmap(make))(SHIFTS)

    def draw(distribution, key):
        return distribution.sample(seed=key, sample_shape=(7,))

    drawn = jax.jit(jax.vmap(draw))(many, keys)
    eager = draw(compiled(make)(SHIFTS[0]), keys[0])
    assert_same(drawn, np.stack([eager, jax.jit(draw)(compiled(make)(SHIFTS[1]), keys[1])]))
