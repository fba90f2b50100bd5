"""Mixtures of angles against quadrature over the circle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate as si
import torch

import torch_ref.distributions as td
import torch_ref.metrics as ref
from jaxprob import distributions as jd
from jaxprob import metrics
from jaxprob.distributions.circular import nearest_turn

LOCS = np.array([2.9, -3.0, 1.5])  # on both sides of the seam at pi
CONCENTRATIONS = np.array([8.0, 3.0, 0.7])
WEIGHTS = np.array([0.5, 0.3, 0.2])
TURN = 2 * np.pi


def mixture(d, t):
    return d.MixtureSameFamily(
        d.Categorical(probs=t(WEIGHTS)), d.VonMises(t(LOCS), t(CONCENTRATIONS))
    )


@pytest.fixture(scope="module")
def ours():
    return mixture(jd, jnp.asarray)


def moment(distribution):
    """E exp(i X) by the trapezoidal rule, which is exact for periodic functions."""
    x = np.linspace(-np.pi, np.pi, 4096, endpoint=False)
    return np.mean(TURN * np.exp(np.asarray(distribution.log_prob(x))) * np.exp(1j * x))


def test_direction_and_variance(ours):
    z = moment(ours)
    np.testing.assert_allclose(ours.mean(), np.angle(z), rtol=1e-12)
    np.testing.assert_allclose(ours.variance(), 1.0 - np.abs(z), rtol=1e-12)
    twin = mixture(td, torch.as_tensor)
    np.testing.assert_allclose(twin.mean, np.angle(z), rtol=1e-12)
    np.testing.assert_allclose(twin.variance, 1.0 - np.abs(z), rtol=1e-12)


def test_the_cdf_counts_from_the_point_opposite_to_the_mean(ours):
    cut = float(ours.mean()) - np.pi
    x = cut + np.array([0.0, 0.1, 1.0, 2.5, np.pi, 4.0, 6.2, TURN])

    def density(angle):
        return float(np.exp(ours.log_prob(angle)))

    right = [si.quad(density, cut, end, limit=200, epsabs=1e-12)[0] for end in x]
    np.testing.assert_allclose(ours.cdf(x), right, atol=1e-10)
    np.testing.assert_allclose(ours.survival_function(x), 1.0 - np.array(right), atol=1e-10)
    twin = mixture(td, torch.as_tensor)
    np.testing.assert_allclose(twin.cdf(torch.as_tensor(x)), right, atol=1e-10)
    np.testing.assert_allclose(np.exp(ours.log_cdf(x)), ours.cdf(x), atol=1e-12)


def test_quantiles_and_arcs(ours):
    q = np.array([0.01, 0.3, 0.5, 0.77, 0.99])
    np.testing.assert_allclose(ours.cdf(ours.quantile(q)), q, rtol=1e-9)
    np.testing.assert_allclose(
        mixture(td, torch.as_tensor).quantile(torch.as_tensor(q)), ours.quantile(q), rtol=1e-9
    )
    low, high = ours.interval(0.9)
    draws = np.asarray(ours.sample(seed=jax.random.key(0), sample_shape=4000))
    turned = nearest_turn(jnp.asarray(draws), ours.mean())
    inside = np.mean((turned >= low) & (turned <= high))
    assert abs(inside - 0.9) < 4 * np.sqrt(0.09 / 4000)
    assert high > np.pi  # the arc passes the seam, where an interval of a line would not


def test_a_predictive_splits_the_circular_variance():
    locs = jnp.asarray([[3.0, 0.1], [-3.0, 0.3]])  # [S, B]
    components = jd.VonMises(locs, 5.0)
    predictive = jd.Predictive(components)
    np.testing.assert_allclose(
        predictive.aleatoric + predictive.epistemic, predictive.variance(), rtol=1e-12
    )
    np.testing.assert_allclose(predictive.aleatoric, components.variance()[0], rtol=1e-12)
    # |mean of two unit vectors 2 pi - 6 apart| = cos of half the angle
    resultant = 1.0 - float(components.variance()[0, 0])
    apart = resultant * (1.0 - np.cos(np.pi - 3.0))
    np.testing.assert_allclose(predictive.epistemic[0], apart, rtol=1e-9)
    twin = td.Predictive(td.VonMises(torch.tensor(locs.tolist()).double(), torch.tensor(5.0)))
    np.testing.assert_allclose(twin.epistemic, predictive.epistemic, rtol=1e-6)
    vectors = jd.Predictive(jd.Independent(jd.VonMises(locs[..., None], 5.0), 1))
    np.testing.assert_allclose(vectors.mean()[:, 0], predictive.mean(), rtol=1e-12)
    np.testing.assert_allclose(vectors.interval(0.5)[0][:, 0], predictive.interval(0.5)[0])


def test_opposite_directions_have_no_mean_but_finite_gradients():
    def spread(loc):
        both = jd.VonMises(jnp.stack([loc, loc + jnp.pi]), 2.0)
        return jd.MixtureSameFamily(jd.Categorical(logits=jnp.zeros(2)), both).variance()

    value, slope = jax.value_and_grad(spread)(0.0)
    np.testing.assert_allclose(value, 1.0, rtol=1e-12)
    assert np.isfinite(slope)


def test_coverage_of_angles_given_within_pi():
    rng = np.random.default_rng(0)
    y = rng.vonmises(3.0, 4.0, 4000)  # NumPy gives angles in [-pi, pi]
    exact = jd.VonMises(jnp.full(4000, 3.0), 4.0)
    assert abs(float(metrics.coverage(exact, y)) - 0.9) < 4 * np.sqrt(0.09 / 4000)
    uniform = np.asarray(metrics.pit(exact, y))
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * 4000)
    twin = td.VonMises(torch.full((4000,), 3.0).double(), torch.full((4000,), 4.0).double())
    turned = ref.coverage(twin, torch.as_tensor(y))
    np.testing.assert_allclose(turned, metrics.coverage(exact, y), atol=1e-12)
    assert "covers" in str(metrics.report(exact, y))
