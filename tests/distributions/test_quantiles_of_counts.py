"""Quantiles of counts: the smallest k with cdf(k) >= q, to the last digit of the upper tail."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
import torch

import torch_ref.distributions as td
from jaxprob import distributions as jd

FAMILIES = {
    "Poisson": (lambda d, t: d.Poisson(t(100.0)), 175),
    "Geometric": (lambda d, t: d.Geometric(probs=t(0.1)), 150),
    "NegativeBinomial": (lambda d, t: d.NegativeBinomial(t(3.0), logits=t(1.0)), 70),
    "Binomial": (lambda d, t: d.Binomial(t(40.0), probs=t(0.4)), 40),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_invert_the_cdf_as_far_as_it_is_one_to_one(family, dtype):
    build, count = FAMILIES[family]
    distribution = build(jd, lambda v: jnp.asarray(v, dtype))
    k = jnp.arange(float(count), dtype=dtype)
    cdf = np.asarray(distribution.cdf(k))
    first = np.searchsorted(cdf, cdf)  # of counts whose cdf rounds to one number the smallest
    found = np.asarray(distribution.quantile(cdf))
    inner = (cdf > 0.0) & (cdf < 1.0)
    np.testing.assert_array_equal(found[inner], first[inner])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_twin_inverts_its_cdf(family):
    build, count = FAMILIES[family]
    distribution = build(td, lambda v: torch.tensor(v, dtype=torch.float64))
    k = torch.arange(float(count), dtype=torch.float64)
    cdf = distribution.cdf(k)
    inner = (cdf > 0.0) & (cdf < 1.0)
    first = torch.searchsorted(cdf, cdf)
    assert torch.equal(distribution.quantile(cdf)[inner], first[inner].double())


def test_high_quantiles_in_float32():
    q = np.float32([0.99999, 0.9999, 0.999])
    right = st.geom(np.float64(np.float32(0.1)), loc=-1).isf(1.0 - q.astype(np.float64))
    np.testing.assert_array_equal(jd.Geometric(probs=jnp.float32(0.1)).quantile(q), right)
    tail = np.float32([1e-10, 1e-20, 1e-30])
    right = [np.argmax(st.poisson(0.5).sf(np.arange(60)) <= t) for t in tail.astype(np.float64)]
    found = jd.Poisson(jnp.float32(0.5)).inverse_survival_function(tail)
    np.testing.assert_array_equal(found, right)
    classes = jd.Categorical(logits=jnp.float32([0.0, -30.0, -31.0]))
    found = classes.inverse_survival_function(jnp.float32([1e-10, 1e-13, 1e-14]))
    np.testing.assert_array_equal(found, [0, 1, 2])


def test_point_masses():
    weights, places = [0.1, 0.2, 0.7, 0.0], [3.0, 1.0, 2.0, 9.0]
    q = np.array([0.0, 0.05, 0.2, 0.21, 0.3, 0.9, 0.95, 1.0])
    right = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]
    ours = jd.MixtureSameFamily(jd.Categorical(probs=weights), jd.Deterministic(places))
    np.testing.assert_array_equal(ours.quantile(q), right)
    np.testing.assert_array_equal(ours.interval(0.8), (1.0, 2.0))
    double = {"dtype": torch.float64}
    twin = td.MixtureSameFamily(
        td.Categorical(probs=torch.tensor(weights, **double)),
        td.Deterministic(torch.tensor(places, **double)),
    )
    np.testing.assert_array_equal(twin.quantile(torch.tensor(q)), right)


def test_predictions_without_spread():
    draws = jnp.array([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]])  # [S, B]
    predictive = jd.Predictive(jd.Deterministic(draws))
    np.testing.assert_array_equal(predictive.median(), [2.0, 4.0])
    vectors = jd.Predictive(jd.Independent(jd.Deterministic(draws[..., None]), 1))
    np.testing.assert_array_equal(vectors.quantile(0.9), [[3.0], [5.0]])


def test_log_survival_of_classes():
    logits = np.array([0.0, -5.0, -20.0, -25.0])
    mass = np.exp(logits) / np.exp(logits).sum()
    right = [np.log(mass[k + 1 :].sum()) for k in range(3)]
    ours = jd.Categorical(logits=jnp.float32(logits)).log_survival_function(jnp.arange(4))
    np.testing.assert_allclose(ours[:3], right, rtol=2e-6)
    assert ours[3] == -jnp.inf
    lower = jd.Categorical(logits=jnp.float32(logits[::-1])).log_cdf(jnp.arange(3))
    np.testing.assert_allclose(lower, right[::-1], rtol=2e-6)
    of_zero = jd.Categorical(probs=[0.4, 0.6, 0.0]).log_survival_function(jnp.arange(3))
    np.testing.assert_allclose(of_zero, [np.log(0.6), -np.inf, -np.inf], rtol=1e-12)
