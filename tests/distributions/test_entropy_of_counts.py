"""Entropies and divergences of counts against SciPy's sums, and against Stirling's far out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
import torch

import torch_ref.distributions as td
from jaxprob import distributions as jd

RATES = np.array([0.0, 1e-6, 0.5, 7.0, 400.0, 3e4])
TRIALS = np.array([1.0, 9.0, 300.0, 5000.0])
SIZES = np.array([0.2, 1.0, 12.0, 0.05])
ODDS = np.array([0.3, 0.5, 0.02, 0.999])


def by_sum(distribution):
    """-sum p log p of one of SciPy's counts."""
    last = distribution.mean() + 45 * distribution.std()
    k = np.arange(0, np.nanmax([last, distribution.isf(1e-25)]) + 60)
    logs = distribution.logpmf(k)
    logs = logs[np.isfinite(logs)]
    return -np.sum(np.exp(logs) * logs)


def by_series(rate):
    """The same of a Poisson with many counts, whose log-masses SciPy has to 11 digits only.

    Source: Evans & Boersma, "The entropy of a Poisson distribution" (SIAM Review 1988).
    """
    series = 0.5 * np.log(2 * np.pi * np.e * rate) - 1 / (12 * rate)
    return series - 1 / (24 * rate**2) - 19 / (360 * rate**3)


def test_poisson_from_none_to_many():
    entropy = jax.jit(lambda r: jd.Poisson(r).entropy())(jnp.asarray(RATES))
    right = np.array([0.0] + [by_sum(st.poisson(r)) for r in RATES[1:-1]] + [by_series(RATES[-1])])
    np.testing.assert_allclose(entropy, right, rtol=2e-12, atol=1e-15)
    twin = td.Poisson(torch.tensor(RATES)).entropy()
    np.testing.assert_allclose(twin, right, rtol=2e-12, atol=1e-15)


def test_a_poisson_too_wide_to_be_summed():
    rate = 1e9
    np.testing.assert_allclose(jd.Poisson(rate).entropy(), by_series(rate), rtol=1e-12)
    narrow = jd.Poisson(jnp.float32(rate)).entropy()
    np.testing.assert_allclose(narrow, by_series(rate), rtol=1e-5)


def test_binomials():
    right = [by_sum(st.binom(n, p)) for n, p in zip(TRIALS, ODDS, strict=True)]
    np.testing.assert_allclose(jd.Binomial(TRIALS, probs=ODDS).entropy(), right, rtol=1e-11)
    twin = td.Binomial(torch.tensor(TRIALS), probs=torch.tensor(ODDS)).entropy()
    np.testing.assert_allclose(twin, right, rtol=1e-11)
    certain = jd.Binomial([5.0, 5.0, 0.0], probs=[0.0, 1.0, 0.5]).entropy()
    np.testing.assert_array_equal(certain, 0.0)


def test_negative_binomials_with_heavy_tails():
    right = [by_sum(st.nbinom(r, 1 - p)) for r, p in zip(SIZES, ODDS, strict=True)]
    ours = jd.NegativeBinomial(SIZES, probs=ODDS).entropy()
    np.testing.assert_allclose(ours, right, rtol=2e-9)
    twin = td.NegativeBinomial(torch.tensor(SIZES), probs=torch.tensor(ODDS)).entropy()
    np.testing.assert_allclose(twin, right, rtol=2e-9)


def test_extra_zeros():
    k = np.arange(60)
    mass = 0.3 * (k == 0) + 0.7 * st.poisson.pmf(k, 4.0)
    right = -np.sum(mass[mass > 0] * np.log(mass[mass > 0]))
    logits = np.log(0.3 / 0.7)
    np.testing.assert_allclose(
        jd.ZeroInflated(jd.Poisson(4.0), logits).entropy(), right, rtol=1e-12
    )
    twin = td.ZeroInflated(td.Poisson(torch.tensor(4.0).double()), torch.tensor(logits))
    np.testing.assert_allclose(twin.entropy(), right, rtol=1e-12)


@pytest.mark.parametrize(
    ("n", "p"), [(10, [1 / 6, 1 / 3, 1 / 2]), (3, [0.5, 0.5]), (0, [0.2, 0.8])]
)
def test_multinomials_over_all_outcomes(n, p):
    right = float(st.multinomial(n, p).entropy()) if n else 0.0
    np.testing.assert_allclose(jd.Multinomial(n, probs=p).entropy(), right, rtol=1e-12)
    logits = jnp.log(jnp.asarray(p)) + 2.0
    np.testing.assert_allclose(jd.Multinomial(n, logits=logits).entropy(), right, rtol=1e-12)
    twin = td.Multinomial(n, probs=torch.tensor(p, dtype=torch.float64)).entropy()
    np.testing.assert_allclose(twin, right, rtol=1e-11, atol=1e-13)


def test_a_multinomial_with_a_class_that_cannot_be():
    right = float(st.multinomial(7, [0.25, 0.75]).entropy())
    entropy, slope = jax.value_and_grad(lambda p: jd.Multinomial(7, probs=p).entropy())(
        jnp.array([0.25, 0.0, 0.75])
    )
    np.testing.assert_allclose(entropy, right, rtol=1e-12)
    assert np.all(np.isfinite(np.asarray(slope)[[0, 2]]))


def test_gradients_are_those_of_the_sum():
    def mass(rate):
        k = jnp.arange(80.0)
        return k * jnp.log(rate) - rate - jax.scipy.special.gammaln(k + 1.0)

    def direct(rate):
        return -jnp.sum(jnp.exp(mass(rate)) * mass(rate))

    ours = jax.grad(lambda r: jd.Poisson(r).entropy())(6.0)
    np.testing.assert_allclose(ours, jax.grad(direct)(6.0), rtol=1e-10)


def test_divergences_of_counts_with_other_total_counts():
    k = np.arange(10)
    p, q = st.binom(9, 0.3), st.binom(14, 0.2)
    right = np.sum(p.pmf(k) * (p.logpmf(k) - q.logpmf(k)))
    ours = jd.Binomial(9.0, probs=0.3).kl_divergence(jd.Binomial(14.0, probs=0.2))
    np.testing.assert_allclose(ours, right, rtol=1e-12)
    assert jd.Binomial(14.0, probs=0.2).kl_divergence(jd.Binomial(9.0, probs=0.3)) == jnp.inf
    k = np.arange(400)
    p, q = st.nbinom(3.5, 0.7), st.nbinom(2.0, 0.4)
    right = np.sum(p.pmf(k) * (p.logpmf(k) - q.logpmf(k)))
    ours = jd.NegativeBinomial(3.5, probs=0.3).kl_divergence(jd.NegativeBinomial(2.0, probs=0.6))
    np.testing.assert_allclose(ours, right, rtol=1e-11)
    double = [torch.tensor(v, dtype=torch.float64) for v in (3.5, 0.3, 2.0, 0.6)]
    twin = td.NegativeBinomial(double[0], probs=double[1]).kl_divergence(
        td.NegativeBinomial(double[2], probs=double[3])
    )
    np.testing.assert_allclose(twin, right, rtol=1e-11)


def test_a_poisson_without_counts_in_both_packages():
    assert float(jd.Poisson(0.0).kl_divergence(jd.Poisson(2.0))) == 2.0
    none, two = (td.Poisson(torch.tensor(r).double()) for r in (0.0, 2.0))
    assert float(none.kl_divergence(two)) == 2.0
