"""Scores against the integrals and sums that define them."""

import distrax
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from jaxprob.distributions import (
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Predictive,
)
from jaxprob.metrics import brier, crps, nll

RNG = np.random.default_rng(0)
LOC = np.array([0.0, 1.5, -2.0, 40.0])
SCALE = np.array([1.0, 0.3, 2.0, 0.01])
Y = np.array([0.4, -1.0, 30.0, 40.005])
PROBS = np.array([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])


def crps_by_quadrature(cdf, y, low, high):
    """The integral of (F(x) - 1[y <= x])^2, cut where the integrand jumps."""
    pieces = [(low, y, lambda x: cdf(x) ** 2), (y, high, lambda x: (1 - cdf(x)) ** 2)]
    return sum(
        scipy.integrate.quad(f, a, b, epsabs=1e-12, epsrel=1e-11, limit=500)[0]
        for a, b, f in pieces
    )


def mixtures():
    logits = RNG.normal(size=(2, 3))
    loc, scale = RNG.normal(size=(2, 3)) * 2, RNG.uniform(0.2, 1.5, size=(2, 3))
    mixture = MixtureSameFamily(distrax.Categorical(logits=logits), Normal(loc, scale))
    predictive = Predictive(Normal(loc.T, scale.T))
    return [(mixture, np.asarray(jax.nn.softmax(logits))), (predictive, np.full((2, 3), 1 / 3))]


def test_crps_of_normals_is_its_integral():
    rows = crps(Normal(LOC, SCALE), Y, per_row=True)
    for got, y, loc, scale in zip(rows, Y, LOC, SCALE, strict=True):
        cdf = scipy.stats.norm(loc, scale).cdf
        low, high = min(y, loc - 12 * scale), max(y, loc + 12 * scale)
        np.testing.assert_allclose(got, crps_by_quadrature(cdf, y, low, high), rtol=1e-9)
    np.testing.assert_allclose(crps(Normal(LOC, SCALE), Y), np.mean(rows), rtol=1e-14)


@pytest.mark.parametrize(("mixture", "weights"), mixtures(), ids=["mixture", "predictive"])
def test_crps_of_mixtures_is_their_integral(mixture, weights):
    components = mixture.components_distribution
    y = np.array([0.3, -1.2])
    for b, got in enumerate(crps(mixture, y, per_row=True)):
        normals = scipy.stats.norm(np.asarray(components.loc[b]), np.asarray(components.scale[b]))

        def cdf(x, normals=normals, weights=weights[b]):
            return weights @ normals.cdf(x)

        np.testing.assert_allclose(got, crps_by_quadrature(cdf, y[b], -25, 25), rtol=1e-8)


def test_crps_of_samples_is_the_integral_of_their_empirical_cdf():
    samples, y = RNG.normal(size=(7, 2, 3)), RNG.normal(size=(2, 3))
    rows = crps(samples, y, per_row=True)
    assert rows.shape == y.shape
    for i, j in np.ndindex(y.shape):
        # The integrand is constant between neighbouring points of {samples, y}.
        points = np.sort(np.append(samples[:, i, j], y[i, j]))
        middle = 0.5 * (points[1:] + points[:-1])
        cdf = np.mean(samples[:, i, j] <= middle[:, None], axis=1)
        truth = np.sum(np.diff(points) * (cdf - (y[i, j] <= middle)) ** 2)
        np.testing.assert_allclose(rows[i, j], truth, rtol=1e-12)
    np.testing.assert_allclose(crps(samples, y), np.mean(rows), rtol=1e-14)


def test_crps_of_vectors_scores_each_marginal():
    loc, scale = RNG.normal(size=(4, 2)), RNG.uniform(0.5, 2, size=(4, 2))
    y = RNG.normal(size=(4, 2))
    each = crps(Normal(loc, scale), y, per_row=True)
    assert each.shape == (4, 2)
    np.testing.assert_allclose(crps(Independent(Normal(loc, scale), 1), y, per_row=True), each)
    factor = np.array([[1.0, 0.0], [0.6, 0.8]]) * scale[..., None]  # rows of norm `scale`
    np.testing.assert_allclose(
        crps(MultivariateNormal(loc, factor), y, per_row=True), each, rtol=1e-12
    )


def test_scores_are_proper():
    """Expected under the truth, the truth scores best; the expectation is Gauss-Hermite's."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    loc, scale = np.meshgrid([-0.3, -0.1, 0.0, 0.1, 0.3], [0.7, 0.9, 1.0, 1.1, 1.4])
    shape = (*loc.shape, len(nodes))
    candidates = Normal(*(np.broadcast_to(p[..., None], shape) for p in (loc, scale)))
    y = np.broadcast_to(nodes, shape)
    for score in (nll, crps):
        expected = np.asarray(score(candidates, y, per_row=True)) @ weights
        best = np.unravel_index(np.argmin(expected), loc.shape)
        assert (loc[best], scale[best]) == (0.0, 1.0)
    truth = np.array([0.5, 0.3, 0.2])
    others = np.concatenate([[truth], RNG.dirichlet(np.ones(3) * 5, size=50)])
    labels = np.arange(3)
    expected = [truth @ np.asarray(brier(np.tile(p, (3, 1)), labels, per_row=True)) for p in others]
    assert np.argmin(expected) == 0


def test_nll_is_scipys_log_density():
    rows = -scipy.stats.norm.logpdf(Y, LOC, SCALE)
    np.testing.assert_allclose(nll(Normal(LOC, SCALE), Y, per_row=True), rows, rtol=1e-10)
    np.testing.assert_allclose(nll(Normal(LOC, SCALE), Y), rows.mean(), rtol=1e-10)
    stacked = Independent(Normal(LOC[None], SCALE[None]), 1)
    np.testing.assert_allclose(nll(stacked, Y[None], per_row=True), [rows.sum()], rtol=1e-10)


def test_brier_by_hand():
    # 0.3^2 + 0.2^2 + 0.1^2;  0.75^2 + 0.25^2 + 0.5^2;  certain and right, or certain and wrong
    np.testing.assert_allclose(brier(PROBS, np.array([0, 0, 1]), per_row=True), [0.14, 0.875, 0.0])
    np.testing.assert_allclose(brier(PROBS, np.array([0, 0, 2])), (0.14 + 0.875 + 2.0) / 3)
    # One probability of two: its squared error, which is half of the score of both.
    p, labels = np.array([0.3, 0.9]), np.array([1, 1])
    np.testing.assert_allclose(brier(p, labels, per_row=True), [0.49, 0.01])
    both = brier(np.stack([1 - p, p], axis=1), labels, per_row=True)
    np.testing.assert_allclose(both, [0.98, 0.02])


def test_scores_keep_float32_and_compile():
    loc, scale, y = (jnp.asarray(v, jnp.float32) for v in (LOC, SCALE, Y))
    labels = jnp.asarray([0, 1, 2])
    assert crps(Normal(loc, scale), y).dtype == jnp.float32
    assert brier(jnp.asarray(PROBS, jnp.float32), labels).dtype == jnp.float32
    assert brier(jnp.asarray(PROBS[:, 0], jnp.float32), labels // 2).dtype == jnp.float32
    compiled = jax.jit(lambda loc, scale, y: crps(Normal(loc, scale), y))(LOC, SCALE, Y)
    np.testing.assert_allclose(compiled, crps(Normal(LOC, SCALE), Y), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nll(Independent(Normal(np.zeros((4, 1)), 1.0), 1), Y),
            r"nll: y has shape \(4,\), but the predictions have shape \(4, 1\). Write y\[:, None\]",
        ),
        (
            lambda: crps(Normal(LOC, SCALE), Y[:3]),
            r"crps: y has shape \(3,\), but the predictions have shape \(4,\)",
        ),
        (
            lambda: crps(np.zeros((10, 3)), Y),
            r"samples have shape \(10, 3\) and y \(4,\); expected .*\[S, \*y.shape\] = \(S, 4\)",
        ),
        (
            lambda: crps(Normal(LOC, SCALE), np.where(Y < 0, np.nan, Y)),
            r"crps: y must be a real number \(not NaN\); 1 of 4 .* first at index \(1,\): nan",
        ),
        (
            lambda: brier(PROBS, np.array([0, 1])),
            r"brier: probs has shape \(3, 3\) and labels \(2,\); expected \[B, K\]",
        ),
        (
            lambda: brier(PROBS, np.array([0.0, 1.0, 2.0])),
            r"labels must be integer classes; got dtype float64. Write labels.astype\(int\)",
        ),
        (
            lambda: brier(PROBS, np.array([1, 2, 3])),
            r"labels must be a class from 0 to 2; 1 of 3 .* index \(2,\): 3. Number the classes",
        ),
        (
            lambda: brier(np.log(PROBS[:2]), np.array([1, 2])),
            r"probs must be a probability \(0 to 1\); 6 of 6 .* Turn logits into",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_array_is_no_prediction(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
    with pytest.raises(ValueError, match="nll: predictive must be a distribution; got ndarray"):
        nll(np.zeros(4), Y)


def test_crps_without_a_closed_form_asks_for_samples():
    normals = Normal(np.zeros((4, 2, 2)), 1.0)
    nested = MixtureSameFamily(distrax.Categorical(logits=np.zeros((4, 2, 2))), normals)
    mixture = MixtureSameFamily(distrax.Categorical(logits=np.zeros((4, 2))), nested)
    with pytest.raises(NotImplementedError, match="pass samples instead: crps.predictive.sample"):
        crps(mixture, Y)
    samples = np.random.default_rng(1).normal(size=(1000, 4))  # what the message asks for
    np.testing.assert_allclose(crps(samples, Y), crps(Normal(np.zeros(4), 1.0), Y), rtol=0.01)
