"""Gauss-Newton matrices against explicit Jacobians, exact Hessians and formulas by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.special import polygamma

import jaxprob.nn as jnn
from jaxprob import distributions as d
from jaxprob import heads
from jaxprob.bayes.curvature import fisher_information, gauss_newton
from jaxprob.bayes.kronecker import factored_gauss_newton
from jaxprob.bayes.parameters import vector_of, with_vector
from jaxprob.objectives.likelihood import log_likelihood_of_batch

RNG = np.random.default_rng(0)
ROWS = 7


def network(head: nn.Module) -> nn.Module:
    return nn.Sequential([jnn.MLP((3,), nn.tanh), head])


def start(model, x):
    """Params in float64, and the function of their vector."""
    params = model.init(jax.random.key(1), x)["params"]
    vector, unravel = ravel_pytree(jax.tree.map(lambda w: jnp.asarray(w, jnp.float64), params))
    vector = vector + 0.1 * jnp.asarray(RNG.normal(size=vector.shape))
    return vector, unravel


def predict_of(model, unravel=lambda w: w):
    return lambda w, batch: model.apply({"params": unravel(w)}, batch["x"])


# The Fisher information of each family in the parameters that its head learns, by hand or from the
# mean outer product of its scores under draws of its own.
FISHERS = {
    "Normal": (d.Normal([0.3], [0.7]), np.diag([1 / 0.49, 2 / 0.49])),
    "LogNormal": (d.LogNormal([0.3], [0.7]), np.diag([1 / 0.49, 2 / 0.49])),
    "Bernoulli": (d.Bernoulli(logits=[np.log(3.0)]), np.array([[0.75 * 0.25]])),
    "Bernoulli, probs": (d.Bernoulli(probs=[0.75]), np.array([[1 / (0.75 * 0.25)]])),
    "Poisson": (d.Poisson([2.5]), np.array([[1 / 2.5]])),
    "Exponential": (d.Exponential([2.5]), np.array([[1 / 2.5**2]])),
    "Gamma": (
        d.Gamma([1.5], [2.0]),
        np.array([[polygamma(1, 1.5), -1 / 2.0], [-1 / 2.0, 1.5 / 2.0**2]]),
    ),
    "Categorical": (
        d.Categorical(logits=np.log([[0.2, 0.3, 0.5]])),
        np.diag([0.2, 0.3, 0.5]) - np.outer([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),
    ),
    "Cauchy": (d.Cauchy([0.3], [0.7]), np.diag([0.5 / 0.49, 0.5 / 0.49])),
    "Geometric": (d.Geometric(probs=[0.3]), np.array([[1 / (0.09 * 0.7)]])),
}


@pytest.mark.parametrize("name", FISHERS)
def test_fisher_is_the_textbook_one(name):
    distribution, expected = FISHERS[name]
    np.testing.assert_allclose(
        np.asarray(jax.jit(fisher_information)(distribution)), expected, rtol=1e-9, atol=1e-12
    )


def _beta_scores():
    a, b = 1.5, 2.5
    total = polygamma(1, a + b)
    return np.array([[polygamma(1, b) - total, -total], [-total, polygamma(1, a) - total]])


SCORED = {
    "Gumbel": d.Gumbel([0.3], [0.7]),
    "Weibull": d.Weibull([0.7], [1.5]),
    "InverseGamma": d.InverseGamma([2.5], [2.0]),
    "HalfNormal": d.HalfNormal([0.7]),
    "Beta": d.Beta([1.5], [2.5]),
    "VonMises": d.VonMises([0.3], [2.0]),
}


@pytest.mark.heavy(10)
@pytest.mark.parametrize("name", SCORED)
def test_fisher_is_the_variance_of_the_score(name):
    """F = E score score^T, by the midpoint rule over quantiles."""
    distribution = SCORED[name]
    levels = (np.arange(20_000) + 0.5) / 20_000
    points = jax.jit(distribution.quantile)(levels[:, None])

    def log_prob(eta, y):
        return with_vector(distribution, eta).log_prob(y)[0]

    scores = jax.jit(jax.vmap(jax.grad(log_prob), (None, 0)))(vector_of(distribution), points)
    expected = np.asarray(scores.T @ scores) / len(levels)
    found = np.asarray(fisher_information(distribution))
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3 * np.max(expected))


def test_fisher_of_a_beta_is_known():
    found = np.asarray(jax.jit(fisher_information)(d.Beta([1.5], [2.5])))
    np.testing.assert_allclose(found, _beta_scores(), rtol=1e-9)


def test_families_without_one_say_so():
    for family in (d.StudentT([3.0], [0.0], [1.0]), d.Laplace([0.0], [1.0])):
        with pytest.raises(ValueError, match="fisher='observed'"):
            fisher_information(family)
    with pytest.raises(ValueError, match="fisher='observed'"):
        fisher_information(d.NegativeBinomial([3.0], logits=[0.0]))


@pytest.fixture(scope="module")
def regression():
    """A small network with its explicit Gauss-Newton matrix from Jacobian and textbook Fisher."""
    model = network(heads.NormalHead(2))
    x = RNG.normal(size=(ROWS, 2))
    vector, unravel = start(model, x)
    weight = RNG.integers(0, 3, ROWS) * 1.0

    def loc_and_log_scale(v):
        inner = model.apply({"params": unravel(v)}, x).distribution
        return jnp.stack([inner.loc, jnp.log(inner.scale)])

    jacobian = np.asarray(jax.jacobian(loc_and_log_scale)(vector))  # [2, N, D, P]
    scale = np.exp(np.asarray(loc_and_log_scale(vector))[1])
    fisher = np.stack([scale**-2, np.full_like(scale, 2.0)])
    of_rows = np.einsum("endp,endq,end->npq", jacobian, jacobian, fisher)
    return model, x, vector, unravel, weight, of_rows


def test_full_matrix_from_the_explicit_jacobian(regression):
    model, x, vector, unravel, weight, of_rows = regression
    found = {}
    for chunk_size in (3, 100):
        h = jax.jit(
            lambda v, s=chunk_size: gauss_newton(
                predict_of(model, unravel), v, {"x": x, "weight": weight}, chunk_size=s
            )
        )(vector)
        found[chunk_size] = np.asarray(h)
    expected = np.einsum("npq,n->pq", of_rows, weight)
    np.testing.assert_allclose(found[100], expected, rtol=0, atol=1e-12 * np.max(expected))
    np.testing.assert_allclose(found[3], found[100], rtol=0, atol=1e-13 * np.max(expected))


@pytest.mark.slow
def test_diagonal_is_that_of_the_full_matrix(regression):
    model, x, vector, unravel, weight, of_rows = regression
    expected = np.einsum("npp,n->p", of_rows, weight)
    data = {"x": x, "weight": weight}
    direct = jax.jit(
        lambda v: gauss_newton(predict_of(model, unravel), v, data, chunk_size=3, diagonal=True)
    )(vector)
    np.testing.assert_allclose(np.asarray(direct), expected, rtol=1e-11, atol=1e-13)
    factors, diagonal = jax.jit(
        lambda p: factored_gauss_newton(predict_of(model), p, data, {}, chunk_size=3)
    )(unravel(vector))
    assert factors == {}
    for path, leaf in paths(unravel(jnp.asarray(expected))).items():
        np.testing.assert_allclose(np.asarray(diagonal[path]), leaf, rtol=1e-11, atol=1e-13)


def paths(params) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {
        jax.tree_util.keystr(k, simple=True, separator="/"): np.asarray(leaf) for k, leaf in leaves
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Bernoulli", "Categorical", "Poisson", "Normal"])
def test_natural_and_linear_is_the_exact_hessian(kind):
    """Where eta is natural and linear in w the Gauss-Newton matrix is the Hessian."""
    x = jnp.asarray(RNG.normal(size=(ROWS, 2)))

    def predict(w, batch):
        eta = batch["x"] @ w.reshape(2, 3)
        families = {
            "Bernoulli": lambda: d.Independent(d.Bernoulli(logits=eta), 1),
            "Categorical": lambda: d.Categorical(logits=eta),
            "Poisson": lambda: d.Independent(d.Poisson(jnp.exp(eta)), 1),
            "Normal": lambda: d.Independent(d.Normal(eta, 0.3 * jnp.ones_like(eta)), 1),
        }
        return families[kind]()

    y = RNG.integers(0, 2, (ROWS,) if kind == "Categorical" else (ROWS, 3)) * 1.0
    data = {"x": x, "y": y}
    if kind != "Categorical":
        data["mask"] = RNG.uniform(size=(ROWS, 3)) < 0.7
    w = jnp.asarray(RNG.normal(size=6))
    exact = jax.hessian(lambda v: -jnp.sum(log_likelihood_of_batch(predict(v, data), data)))(w)
    # The rate is not Poisson's natural parameter: there, what was observed is not what is expected.
    for fisher in ("expected",) if kind == "Poisson" else ("expected", "observed"):
        found = jax.jit(lambda v, f=fisher: gauss_newton(predict, v, data, f, chunk_size=4))(w)
        np.testing.assert_allclose(np.asarray(found), np.asarray(exact), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_observed_is_positive_semi_definite():
    """Student's t has negative curvature far out; it must not survive."""
    x = jnp.ones((3, 1))
    y = jnp.array([[0.0], [0.5], [9.0]])

    def predict(w, batch):
        loc = batch["x"] * w[0]
        return d.Independent(d.StudentT(3.0 * jnp.ones_like(loc), loc, jnp.ones_like(loc)), 1)

    w = jnp.zeros(1)
    exact = -jax.jit(
        jax.vmap(lambda t: jax.hessian(lambda v: d.StudentT(3.0, v[0], 1.0).log_prob(t[0]))(w))
    )(y)
    assert exact[2, 0, 0] < 0 < exact[0, 0, 0]
    found = jax.jit(lambda v: gauss_newton(predict, v, {"x": x, "y": y}, fisher="observed"))(w)
    np.testing.assert_allclose(float(found[0, 0]), float(exact[0, 0, 0] + exact[1, 0, 0]))


def test_wrong_arguments_are_refused():
    x = jnp.ones((3, 2))

    def predict(w, batch):
        return d.Normal(batch["x"] @ w, jnp.ones(len(batch["x"])))

    with pytest.raises(ValueError, match="fisher must be one of expected, observed; got 'exact'"):
        gauss_newton(predict, jnp.ones(2), {"x": x}, fisher="exact")
    with pytest.raises(ValueError, match=r"one leading axis of rows"):
        gauss_newton(predict, jnp.ones(2), {"x": x, "y": jnp.ones(2)})
    censored = {"x": x, "y": jnp.ones(3), "censored": jnp.ones(3)}
    with pytest.raises(ValueError, match="censored targets"):
        gauss_newton(predict, jnp.ones(2), censored)


@pytest.mark.slow
def test_censored_rows_have_observed_curvature():
    """Of log survival functions, which are concave in the location: positive as it is."""
    x = jnp.asarray(RNG.normal(size=(3, 2)))
    data = {"x": x, "y": jnp.ones(3), "censored": jnp.array([1.0, 0.0, -1.0])}

    def predict(w, batch):
        return d.Normal(batch["x"] @ w, jnp.ones(len(batch["x"])))

    def nll(w):
        return -jnp.sum(log_likelihood_of_batch(predict(w, data), data))

    w = jnp.array([0.3, -0.5])
    found = jax.jit(lambda v: gauss_newton(predict, v, data, fisher="observed"))(w)
    np.testing.assert_allclose(np.asarray(found), np.asarray(jax.hessian(nll)(w)), rtol=1e-9)
