"""Distributions made of distrax's or TFP's own, and a constant with a tolerance."""

import distrax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorflow_probability.substrates.jax import distributions as tfd

import jaxprob.distributions as jd

F = jnp.float32
X = jnp.array([-1.0, 0.5, 2.0], F)
LOGITS, LOC, SCALE = jnp.array([0.3, -0.2], F), jnp.array([0.0, 1.0], F), jnp.array([1.0, 2.0], F)


@pytest.mark.parametrize("library", [distrax, tfd])
def test_mixture_of_anothers_parts(library):
    mixture = jd.MixtureSameFamily(library.Categorical(logits=LOGITS), library.Normal(LOC, SCALE))
    ours = jd.MixtureSameFamily(jd.Categorical(logits=LOGITS), jd.Normal(LOC, SCALE))
    np.testing.assert_array_equal(mixture.log_prob(X), ours.log_prob(X))
    np.testing.assert_array_equal(mixture.quantile(0.3), ours.quantile(0.3))


@pytest.mark.parametrize("library", [distrax, tfd])
def test_quantized_of_anothers_base(library):
    quantized = jd.Quantized(library.Uniform(F(0.0), F(10.0)), 0, 9)
    ours = jd.Quantized(jd.Uniform(F(0.0), F(10.0)), 0, 9)
    np.testing.assert_array_equal(quantized.log_prob(jnp.arange(10)), ours.log_prob(jnp.arange(10)))


@pytest.mark.parametrize(("atol", "rtol"), [(0.1, None), (None, 0.1), (0.1, 0.1)])
def test_tolerance_of_a_constant(atol, rtol):
    ours, theirs = (
        jd.Deterministic(LOC[None] + 1.0, atol, rtol),
        distrax.Deterministic(LOC[None] + 1.0, atol, rtol),
    )
    values = jnp.array([[0.75, 1.55], [0.95, 1.95], [1.05, 2.05], [1.25, 2.45]], F)
    for method in ("prob", "log_prob", "cdf", "log_cdf", "survival_function"):
        np.testing.assert_array_equal(
            getattr(ours, method)(values), getattr(theirs, method)(values)
        )
    np.testing.assert_allclose(ours.slack, theirs.slack)
    near = jd.Deterministic(LOC[None] + 1.05)
    np.testing.assert_array_equal(near.kl_divergence(ours), [[0.0, 0.0]])
    assert float(jd.Deterministic(3.0).kl_divergence(ours[0, 0])) == np.inf
    np.testing.assert_array_equal(jd.convert(theirs).prob(values), ours.prob(values))


def test_tolerance_of_an_infinite_constant():
    end = jd.Deterministic(jnp.inf, rtol=0.0)
    assert float(end.cdf(1.0)) == 0.0
    assert float(end.log_prob(1.0)) == -np.inf


def test_tolerance_below_zero():
    with pytest.raises(ValueError, match="Deterministic: atol must be non-negative"):
        jd.Deterministic(1.0, atol=-1.0)
