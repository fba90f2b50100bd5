"""Law 8 for every class: jit and vmap, in and out, nested, never change an answer."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.distributions.examples import GOOD
from tests.distributions.test_bad_input import quick_or_slow

B = 3
TIMES = jnp.array([0.3, 0.7])
NESTED = jnp.array([[0.3, 0.7], [1.1, 0.2]])


def maker(name):
    """t -> the example with batch [B], all of its parameters but counts growing with t."""
    make, parameters, _ = GOOD[name]

    def at(t):
        grown = {}
        for key, value in parameters.items():
            value = jnp.broadcast_to(jnp.asarray(value, float), (B, *np.shape(value)))
            row = 1.0 + 0.1 * jnp.arange(float(B)).reshape((B,) + (1,) * (value.ndim - 1))
            grown[key] = value if key == "total_count" else value * row * (1.0 + 0.1 * t)
        return make(**grown)

    return at


def facts_of(name):
    value = jnp.asarray(GOOD[name][2])
    if name == "Deterministic":
        value = jnp.asarray(5.0)

    def facts(distribution):
        found = {"log_prob": distribution.log_prob(value)}
        for key in ("mean", "variance", "entropy"):
            try:
                found[key] = getattr(distribution, key)()
            except NotImplementedError:
                continue
        shape = distribution.batch_shape
        assert found["log_prob"].shape == shape
        if "entropy" in found:
            assert found["entropy"].shape == shape
        for key in ("mean", "variance"):
            if key in found:
                assert found[key].shape == shape + distribution.event_shape
        return found

    return facts


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def assert_same(actual, expected):
    chex.assert_trees_all_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [quick_or_slow(name) for name in GOOD])
def test_out_of_and_into_jit_and_out_of_vmap(name):
    make, facts, traces = maker(name), facts_of(name), []

    @jax.jit
    def compiled(distribution):
        traces.append(distribution.batch_shape)
        return facts(distribution)

    one = make(0.3)
    alone = [compiled(one), compiled(make(0.7))]
    out = jax.jit(make)(0.3)
    assert (out.batch_shape, out.event_shape) == (one.batch_shape, one.event_shape)
    assert one.batch_shape == (B,)
    assert_same(compiled(out), alone[0])
    assert_same(compiled(jax.tree.map(lambda leaf: leaf, one)), alone[0])
    assert traces == [(B,)]  # new parameters, jit's or tree.map's results: no new trace
    many = jax.vmap(make)(TIMES)
    assert (many.batch_shape, many.event_shape) == ((2, B), one.event_shape)
    assert_same(compiled(many), stacked(alone))
    assert repr(out) == repr(one)
    # one member of the batch, taken by indexing
    value = jnp.asarray(GOOD[name][2])
    np.testing.assert_allclose(one[1].log_prob(value), one.log_prob(value)[1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_into_vmap_and_nested(name):
    make, facts = maker(name), facts_of(name)
    alone = [[facts(make(t)) for t in row] for row in NESTED]
    nested = jax.vmap(jax.vmap(make))(NESTED)
    assert nested.batch_shape == (2, 2, B)
    expected = stacked([stacked(row) for row in alone])
    assert_same(jax.jit(jax.vmap(jax.vmap(facts)))(nested), expected)
    assert_same(jax.jit(facts)(nested), expected)
    first = jax.tree.map(lambda leaf: leaf[0], nested)
    assert_same(jax.jit(jax.vmap(facts))(first), jax.tree.map(lambda leaf: leaf[0], expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_gradient_through_construction(name):
    make, value = maker(name), jnp.asarray(GOOD[name][2])
    if name == "Deterministic":
        value = jnp.asarray(5.0)

    @jax.jit
    def total(t):
        log_prob = make(t).log_prob(value)
        return jnp.sum(jnp.where(jnp.isfinite(log_prob), log_prob, 0.0))

    h = 1e-6
    numeric = (total(0.3 + h) - total(0.3 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(total)(0.3), numeric, rtol=1e-6, atol=1e-7)
    many = jax.jit(jax.vmap(jax.grad(total)))(TIMES)
    np.testing.assert_allclose(many, [jax.grad(total)(t) for t in TIMES], rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_sampling_under_vmap_and_jit(name):
    make = maker(name)
    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.vmap(make)(TIMES)
    drawn = jax.jit(jax.vmap(lambda d, key: d.sample(seed=key, sample_shape=(7,))))(many, keys)
    alone = [make(t).sample(seed=k, sample_shape=(7,)) for t, k in zip(TIMES, keys, strict=True)]
    assert drawn.shape == (2, 7, B, *many.event_shape)
    assert_same(drawn, jnp.stack(alone))
