"""Mutual information and entropy of predictions against sums over counts and fine quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
import torch

import torch_ref.distributions as td
from jaxprob import distributions as jd


def information(masses, step=1.0):
    """H[mean p] - mean H[p] of rows of probabilities (or of densities on a grid)."""

    def entropy(p):
        return -step * np.sum(np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0), -1)

    return entropy(masses.mean(0)) - entropy(masses).mean(), entropy(masses.mean(0))


@pytest.mark.parametrize("rates", [[0.1, 0.3], [0.5, 2.0], [3.0, 4.0], [900.0, 1000.0]])
def test_counts_are_summed(rates):
    k = np.arange(3000)
    right, entropy = information(np.array([st.poisson.pmf(k, r) for r in rates]))
    ours = jd.Predictive(jd.Poisson(jnp.array(rates)[:, None]))
    np.testing.assert_allclose(ours.mutual_information, [right], rtol=1e-9)
    np.testing.assert_allclose(ours.entropy(), [entropy], rtol=1e-9)
    twin = td.Predictive(td.Poisson(torch.tensor(rates, dtype=torch.float64).unsqueeze(-1)))
    np.testing.assert_allclose(twin.mutual_information, [right], rtol=1e-9)


def test_counts_of_two_parameters():
    k = np.arange(400)
    parameters = [(2.0, 0.3), (5.0, 0.5), (1.0, 0.8)]
    right, _ = information(np.array([st.nbinom.pmf(k, n, 1 - p) for n, p in parameters]))
    n, p = (jnp.array(v)[:, None] for v in zip(*parameters, strict=True))
    ours = jd.Predictive(jd.NegativeBinomial(n, probs=p)).mutual_information
    np.testing.assert_allclose(ours, [right], rtol=1e-8)


@pytest.mark.parametrize(
    ("scales", "tolerance"), [((1.0, 1.0), 1e-6), ((1.0, 0.2), 1e-3), ((1.0, 0.01), 5e-3)]
)
def test_components_of_unlike_width(scales, tolerance):
    grid = np.linspace(-9.0, 9.0, 400_001)
    locs = (0.0, 0.3)
    densities = np.array([st.norm.pdf(grid, m, s) for m, s in zip(locs, scales, strict=True)])
    right, entropy = information(densities, grid[1] - grid[0])
    ours = jd.Predictive(jd.Normal(jnp.array(locs)[:, None], jnp.array(scales)[:, None]))
    np.testing.assert_allclose(ours.mutual_information, [right], atol=tolerance)
    np.testing.assert_allclose(ours.entropy(), [entropy], atol=tolerance)
    twin = td.Predictive(
        td.Normal(*(torch.tensor(v, dtype=torch.float64).unsqueeze(-1) for v in (locs, scales)))
    )
    np.testing.assert_allclose(twin.mutual_information, ours.mutual_information, atol=1e-12)


def test_modes_apart_give_the_logarithm_of_their_number():
    ours = jd.Predictive(jd.Normal(jnp.array([-10.0, 10.0])[:, None], 1.0))
    np.testing.assert_allclose(ours.mutual_information, [np.log(2)], atol=1e-9)
