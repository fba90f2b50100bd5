"""The Laplace approximation of networks: its linear algebra, its draws and its predictive."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from jaxprob import bayes, heads
from jaxprob import distributions as d
from jaxprob.nn import MLP
from jaxprob.objectives import GaussianPrior
from tests.bayes.test_laplace import LINE, ROWS, X, covariance_of

RNG = np.random.default_rng(2)


@pytest.fixture(scope="module")
def network():
    """A network that is not at its mode: what is tested is algebra."""
    model = nn.Sequential([MLP((3,), nn.tanh), heads.NormalHead(1, homoscedastic=True)])
    params = model.init(jax.random.key(3), X[:1])["params"]
    params = jax.tree.map(lambda w: jnp.asarray(w + 0.2 * RNG.normal(size=w.shape)), params)
    return model, params, {"x": X, "y": LINE["y"][:, None]}


def dense_precision(laplace, state) -> np.ndarray:
    """P as a matrix, from its products with the basis."""
    layout = laplace.layout

    def row(v):
        product = layout.multiply(state.curvature, state.prior_scale**-2, layout.to_leaves(v))
        return layout.to_vector(product)

    return np.asarray(jax.jit(jax.vmap(row))(jnp.eye(layout.size)))


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=[slow("diagonal"), "kron", slow("full"), slow("last_layer")])
def fitted(request, network):
    model, params, data = network
    laplace = bayes.Laplace(model, X[:1], request.param, GaussianPrior(0.8))
    with pytest.warns(UserWarning, match="not at a mode"):
        state = laplace.fit(params, data)
    return laplace, state


def test_sampling_covariance_is_the_inverse_precision(fitted):
    laplace, state = fitted
    precision = dense_precision(laplace, state)
    np.testing.assert_allclose(precision, precision.T, atol=1e-12)
    product = covariance_of(laplace, state) @ precision
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-9)
    layout = laplace.layout
    vector = jnp.asarray(RNG.normal(size=layout.size))
    solved = layout.solve(state.curvature, state.prior_scale**-2, layout.to_leaves(vector))
    np.testing.assert_allclose(
        precision @ np.asarray(layout.to_vector(solved)), np.asarray(vector), atol=1e-9
    )


def test_evidence_uses_the_same_precision(fitted):
    laplace, state = fitted
    precision = dense_precision(laplace, state)
    weights = np.asarray(laplace.layout.to_vector(laplace.layout.select(state.mean)))
    expected = float(state.log_likelihood) + np.sum(stats.norm(0, 0.8).logpdf(weights))
    expected += 0.5 * len(weights) * np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(precision)[1]
    np.testing.assert_allclose(float(laplace.log_marginal_likelihood(state)), expected, rtol=1e-10)
    tuned = laplace.tune_prior(state)
    slope = jax.grad(lambda s: laplace.log_marginal_likelihood(state, s))(tuned.prior_scale)
    assert abs(float(slope)) < 1e-8


@pytest.mark.slow
def test_draws_are_params_and_serve_predict(fitted, network):
    laplace, state = fitted
    model, params, _ = network
    draws = laplace.sample(state, jax.random.key(0), 3)
    assert jax.tree.map(jnp.shape, draws) == jax.tree.map(lambda w: (3, *w.shape), params)
    noise = np.asarray(jax.random.normal(jax.random.key(0), (3, laplace.num_weights)))
    layout = laplace.layout
    vectors = np.stack(
        [
            np.asarray(layout.to_vector(layout.select(jax.tree.map(lambda w, s=s: w[s], draws))))
            for s in range(3)
        ]
    )
    offsets = vectors - np.asarray(layout.to_vector(layout.select(params)))
    # |L eps|^2 in the metric of the precision is |eps|^2
    lengths = np.einsum("sp,pq,sq->s", offsets, dense_precision(laplace, state), offsets)
    np.testing.assert_allclose(lengths, np.sum(noise**2, axis=1), rtol=1e-9)
    assert bayes.predict(model, draws, X[:4]).batch_shape == (4,)
    if laplace.structure == "last_layer":
        backbone = draws["layers_0"]["hidden_0"]["kernel"]
        np.testing.assert_array_equal(backbone[0], backbone[2])


@pytest.mark.slow
def test_kron_is_full_in_each_block_for_one_row(network):
    model, params, data = network
    row = {name: value[:1] for name, value in data.items()}
    states = {}
    for structure in ("kron", "full", "diagonal"):
        laplace = bayes.Laplace(model, X[:1], structure, GaussianPrior(0.8))
        with pytest.warns(UserWarning, match="not at a mode"):
            states[structure] = dense_precision(laplace, laplace.fit(params, row))
    vector, unravel = ravel_pytree(params)
    groups = jax.tree.map(lambda w: w, unravel(jnp.arange(vector.size, dtype=float)))
    for owner in (groups["layers_0"]["hidden_0"], groups["layers_1"]["out"]):
        index = np.concatenate([np.asarray(w).reshape(-1) for w in owner.values()]).astype(int)
        block = np.ix_(index, index)
        np.testing.assert_allclose(states["kron"][block], states["full"][block], atol=1e-10)
    np.testing.assert_allclose(np.diag(states["diagonal"]), np.diag(states["full"]), rtol=1e-10)
    off = states["diagonal"] - np.diag(np.diag(states["diagonal"]))
    np.testing.assert_array_equal(off, 0.0)


@pytest.mark.slow
def test_linearized_is_the_tangent(network):
    """Its log-scale and loc are linear in the weights, with the slope of the model."""
    model, params, data = network
    laplace = bayes.Laplace(model, X[:1], "full", GaussianPrior(0.8))
    with pytest.warns(UserWarning, match="not at a mode"):
        state = laplace.fit(params, data)
    linear = laplace.linearized(state)
    draws = laplace.sample(state, jax.random.key(1), 2)
    at_draws = bayes.predict(linear, draws, X).components.distribution

    def real(p):
        inner = model.apply({"params": p}, X).distribution
        return jnp.stack([inner.loc, jnp.log(inner.scale)])

    for s in range(2):
        step = jax.tree.map(lambda w, m, s=s: w[s] - m, draws, params)
        value, slope = jax.jvp(real, (params,), (step,))
        expected = np.asarray(value + slope)
        np.testing.assert_allclose(np.asarray(at_draws.loc[s]), expected[0], rtol=1e-12)
        np.testing.assert_allclose(np.asarray(jnp.log(at_draws.scale[s])), expected[1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["kron", "last_layer"])
def test_closed_form_predictive_of_classes(structure):
    """Logits over sqrt(1 + pi v / 8), the variances from the dense covariance."""
    model = nn.Sequential([MLP((3,), nn.tanh), heads.CategoricalHead(3)])
    params = model.init(jax.random.key(3), X[:1])["params"]
    params = jax.tree.map(lambda w: jnp.asarray(w, float), params)
    laplace = bayes.Laplace(model, X[:1], structure, chunk_size=5)
    with pytest.warns(UserWarning, match="not at a mode"):
        state = laplace.fit(params, {"x": X, "y": RNG.integers(0, 3, ROWS)})
    covariance = covariance_of(laplace, state)
    layout = laplace.layout
    vector = layout.to_vector(layout.select(params))

    def logits(v):
        return model.apply({"params": laplace.with_leaves(params, layout.to_leaves(v))}, X).logits

    jacobian = np.asarray(jax.jacobian(logits)(vector))
    variance = np.einsum("bkp,pq,bkq->bk", jacobian, covariance, jacobian)
    scaled = np.asarray(logits(vector)) / np.sqrt(1.0 + np.pi / 8.0 * variance)
    expected = np.asarray(jax.nn.softmax(scaled, axis=-1))
    found = np.asarray(laplace.predict_glm(state, X).probs)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # the same of logits without their mean over the classes
    centre = np.eye(3) - 1 / 3
    covariances = np.einsum("bkp,pq,bjq->bkj", jacobian, covariance, jacobian)
    variance = np.diagonal(centre @ covariances @ centre, axis1=1, axis2=2)
    scaled = np.asarray(logits(vector)) @ centre / np.sqrt(1.0 + np.pi / 8.0 * variance)
    centred = np.asarray(laplace.predict_glm(state, X, "logits").probs)
    np.testing.assert_allclose(centred, np.asarray(jax.nn.softmax(scaled, axis=-1)), rtol=1e-9)
    # both against the average over many draws of the linear model
    noise = np.random.default_rng(0).normal(size=(100_000, 1, vector.size))
    root = np.linalg.cholesky(covariance)
    draws = [
        np.asarray(logits(vector))[b] + noise[:, 0] @ root.T @ jacobian[b].T for b in range(ROWS)
    ]
    average = np.stack([np.asarray(jax.nn.softmax(z, axis=-1)).mean(axis=0) for z in draws])
    # approximations both: .014 and .065 at worst here, .010 and .055 for the last layer alone
    assert np.abs(found - average).max() < 0.02
    assert 0.02 < np.abs(centred - average).max() < 0.08
    with pytest.raises(ValueError, match="classes must be one of log_probs, logits; got 'probit'"):
        laplace.predict_glm(state, X, "probit")


@pytest.mark.slow
def test_a_mixture_of_laplaces_under_vmap(network):
    """`fit` and `sample` under vmap are the same as one at a time."""
    model, params, data = network
    laplace = bayes.Laplace(model, X[:1], "kron")
    members = jax.tree.map(lambda w: jnp.stack([w, w + 0.1]), params)
    states = jax.vmap(laplace.fit, in_axes=(0, None))(members, data)
    keys = jax.random.split(jax.random.key(0), 2)
    draws = jax.vmap(lambda s, k: laplace.sample(s, k, 3))(states, keys)
    alone = laplace._fitted(jax.tree.map(lambda w: w[1], members), data)[0]
    one = laplace.sample(alone, keys[1], 3)
    for many, single in zip(jax.tree.leaves(draws), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(np.asarray(many[1]), np.asarray(single), atol=1e-10)
    flat = jax.tree.map(lambda w: w.reshape(6, *w.shape[2:]), draws)
    assert bayes.predict(model, flat, X).batch_shape == (ROWS,)


@pytest.mark.slow
def test_families_without_closed_form_predictive_name_the_other_way():
    model = nn.Sequential([nn.Dense(1), jnp.exp, lambda rate: d.Independent(d.Poisson(rate), 1)])
    params = jax.tree.map(
        lambda w: jnp.asarray(w, float), model.init(jax.random.key(0), X[:1])["params"]
    )
    laplace = bayes.Laplace(model, X[:1], "kron")
    state, _ = laplace._fitted(params, {"x": X, "y": np.ones((ROWS, 1))})
    with pytest.raises(ValueError, match=r"laplace\.linearized\(state\)"):
        laplace.predict_glm(state, X)
    draws = laplace.sample(state, jax.random.key(0), 50)
    predictive = bayes.predict(laplace.linearized(state), draws, X)
    assert bool(jnp.all(predictive.mean() > 0))


def test_the_last_layer_is_found_in_a_model_that_was_traced_before(network):
    model, _, _ = network
    init = model.init
    jax.eval_shape(init, jax.random.key(0), X[:1])
    laplace = bayes.Laplace(model, X[:1], "last_layer", GaussianPrior(0.8))
    assert laplace.layout.size == 3 + 1 + 1  # kernel, bias and scale of the head
