"""A multivariate normal from its covariance or its precision, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob.distributions import MultivariateNormal

_rng = np.random.default_rng(0)
ROOT = _rng.normal(size=(2, 4, 4))
COVARIANCE = ROOT @ np.swapaxes(ROOT, -1, -2) + 0.1 * np.eye(4)
LOC, X = _rng.normal(size=(2, 4)), _rng.normal(size=(2, 4))


@pytest.mark.parametrize(
    ("name", "matrix"), [("covariance", COVARIANCE), ("precision", np.linalg.inv(COVARIANCE))]
)
def test_density_and_factor(name, matrix):
    p = MultivariateNormal(LOC, **{name: matrix})
    expected = [
        stats.multivariate_normal(m, c).logpdf(x)
        for m, c, x in zip(LOC, COVARIANCE, X, strict=True)
    ]
    np.testing.assert_allclose(p.log_prob(X), expected, rtol=1e-10)
    np.testing.assert_allclose(p.scale_tril, np.linalg.cholesky(COVARIANCE), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(p.covariance(), COVARIANCE, rtol=1e-9)
    mapped = jax.jit(jax.vmap(lambda m, c, x: MultivariateNormal(m, **{name: c}).log_prob(x)))
    np.testing.assert_allclose(mapped(LOC, matrix, X), expected, rtol=1e-10)


def test_gradient_towards_the_covariance():
    def log_prob(c):
        return MultivariateNormal(LOC[0], covariance=c).log_prob(X[0])

    gap = np.linalg.solve(COVARIANCE[0], X[0] - LOC[0])
    expected = 0.5 * (np.outer(gap, gap) - np.linalg.inv(COVARIANCE[0]))
    found = jax.grad(log_prob)(jnp.asarray(COVARIANCE[0]))
    np.testing.assert_allclose(0.5 * (found + found.T), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of scale_tril, covariance and precision; got none"),
        ({"covariance": np.eye(2), "precision": np.eye(2)}, "got covariance and precision"),
        ({"covariance": -np.eye(2)}, "covariance must be a symmetric positive definite matrix"),
        ({"precision": np.ones(2)}, r"precision has shape \(2,\); expected"),
        ({"covariance": np.eye(3)}, "with the same D"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultivariateNormal(np.zeros(2), **arguments)
