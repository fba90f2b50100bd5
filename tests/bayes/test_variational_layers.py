"""Variational layers: the three ways to be random, and convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import bayes
from jaxprob.bayes.variational_layers import noisy_map
from jaxprob.nn import Conv
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(3, 2)))
FEATURES, DRAWS = 2, 40_000
LOC, SCALE = RNG.normal(size=6), np.exp(0.5 * RNG.normal(size=6))  # bias, then kernel [2, 2]


def linear(x, weights):
    return x @ weights[FEATURES:].reshape(2, FEATURES) + weights[None, :FEATURES]


@pytest.fixture(scope="module", params=["weights", "local", "flipout"])
def outputs(request):
    """Estimator and many outputs `[S, B, F]` of a dense layer."""
    raw = jnp.log(jnp.expm1(jnp.asarray(SCALE) - 1e-5))
    block = {"loc": jnp.asarray(LOC), "raw_scale": raw}
    keys = jax.random.split(jax.random.key(1), DRAWS)
    run = jax.jit(jax.vmap(lambda key: noisy_map(linear, block, X, key, request.param)))
    return request.param, np.asarray(run(keys))


def test_each_row_has_the_distribution_of_a_random_layer(outputs):
    """A linear map of independent normals: y ~ N(x M + m_b, x^2 S^2 + s_b^2)."""
    _, y = outputs
    mean, variance = linear(X, LOC), linear(X**2, SCALE**2)
    z = (y - np.asarray(mean)) / np.sqrt(variance)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=4.5 / DRAWS**0.5)
    np.testing.assert_allclose(z.var(0), 1.0, atol=4.5 * (2 / DRAWS) ** 0.5)
    np.testing.assert_allclose((z**4).mean(0), 3.0, atol=4.5 * (96 / DRAWS) ** 0.5)


def test_rows_are_independent_unless_the_weights_are_shared(outputs):
    estimator, y = outputs
    first, second = y[:, 0, 0], y[:, 1, 0]
    covariance = np.mean((first - first.mean()) * (second - second.mean()))
    s = SCALE[FEATURES:].reshape(2, FEATURES)[:, 0]
    shared = float(np.sum(X[0] * X[1] * s**2) + SCALE[0] ** 2)
    expected = shared if estimator == "weights" else 0.0
    error = np.sqrt(2.0) * first.std() * second.std() / DRAWS**0.5
    assert abs(shared) > 20 * error
    assert abs(covariance - expected) < 4.5 * error


def conv_params(model, x, seed=0):
    shapes = jax.eval_shape(bayes.VariationalLayers(model).init, jax.random.key(0), x)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape)), shapes)


@pytest.mark.parametrize(
    ("window", "options"),
    [((3,), {"padding": "same"}), ((2, 3), {"padding": 1, "stride": 2}), ((2, 2), {})],
)
def test_the_mean_of_a_convolution_is_the_plain_one(window, options):
    x = jnp.asarray(RNG.normal(size=(2, *(5, 6)[: len(window)], 3)))
    model = bayes.ConvVariational(4, window, **options)
    params = conv_params(model, x)
    bias, kernel = params["loc"][:4], params["loc"][4:].reshape(*window, 3, 4)
    plain = Conv(4, window, **{"padding": "valid", **options})
    weight = jnp.moveaxis(kernel, (-1, -2), (0, 1))
    expected = plain.apply({"params": {"weight": weight, "bias": bias}}, x)
    np.testing.assert_allclose(model.apply({"params": params}, x), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.heavy(5)
@pytest.mark.parametrize("estimator", ["weights", "local", "flipout"])
def test_a_convolution_has_the_variance_of_its_weights(estimator):
    x = jnp.asarray(RNG.normal(size=(2, 4, 2)))
    model = bayes.ConvVariational(2, (2,), estimator=estimator)
    params = conv_params(model, x)
    run = jax.jit(jax.vmap(lambda key: model.apply({"params": params}, x, key, mutable=["kl"])[0]))
    y = np.asarray(run(jax.random.split(jax.random.key(2), 4_000)))
    scale = jax.nn.softplus(params["raw_scale"]) + 1e-5
    squared = {"loc": scale**2, "raw_scale": params["raw_scale"]}
    variance = model.apply({"params": squared}, x**2)
    mean = np.asarray(model.apply({"params": params}, x))
    z = (y - mean) / np.sqrt(variance)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=4.5 / 4_000**0.5)
    np.testing.assert_allclose(z.var(0), 1.0, atol=4.5 * (2 / 4_000) ** 0.5)


class Stateful(nn.Module):
    """Running statistics between variational layers, and a hierarchical prior."""

    @nn.compact
    def __call__(self, x, key=None):
        keys = (None, None) if key is None else jax.random.split(key)
        prior = HierarchicalGaussianPrior(0.8, 0.5)
        h = bayes.DenseVariational(3, prior=prior)(x, keys[0])
        seen = self.variable("batch_stats", "mean", jnp.zeros, (3,), h.dtype)
        if self.is_mutable_collection("batch_stats"):
            seen.value = 0.9 * seen.value + 0.1 * jnp.mean(h, axis=0)
        return bayes.BayesianMLP((2,), covariance="diagonal")(h - seen.value[None], keys[1])


@pytest.mark.slow
def test_layers_in_a_model_with_state():
    model = Stateful()
    q = bayes.VariationalLayers(model)
    params = q.init(jax.random.key(0), X)
    assert set(params) == {"params", "collections"}
    loss_fn = jax.jit(bayes.negative_elbo(model, 30, num_samples=2))
    batch = {"x": X, "y": jnp.zeros((3, 1))}
    _, metrics = loss_fn(params, batch, jax.random.key(1))
    before, after = (
        c["batch_stats"]["mean"] for c in (params["collections"], metrics["collections"])
    )
    assert before.shape == after.shape
    assert np.all(before != after)
    draws = q.sample(params, jax.random.key(2), 4)
    assert set(draws) == {"params", "batch_stats"}
    assert {leaf.shape[0] for leaf in jax.tree.leaves(draws)} == {4}
    assert bayes.predict(model, draws, X).batch_shape == (3,)
    own = float(params["params"]["DenseVariational_0"]["prior_log_deviation"])
    np.testing.assert_allclose(own, np.log(0.5) - 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"covariance": "low"}, "covariance must be one of full, diagonal; got 'low'"),
        ({"estimator": "flip"}, "estimator must be one of weights, local, flipout; got 'flip'"),
        ({"estimator": "flipout", "covariance": "full"}, "'flipout' needs independent weights"),
    ],
)
@pytest.mark.parametrize("layer", [bayes.DenseVariational, bayes.ConvVariational])
def test_unknown_options_are_refused(layer, options, message):
    window = {"kernel_size": (2,)} if layer is bayes.ConvVariational else {}
    x = X[..., None] if window else X
    with pytest.raises(ValueError, match=message):
        layer(2, **window, **options).init(jax.random.key(0), x)


def test_shapes_and_paddings_of_convolutions_are_checked():
    with pytest.raises(ValueError, match="expected \\[B, spatial..., C\\] with 2 spatial axes"):
        bayes.ConvVariational(2, (2, 2)).init(jax.random.key(0), X[..., None])
    model = bayes.ConvVariational(2, (2,), stride=2, padding="same")
    with pytest.raises(ValueError, match="padding must be a number >= 0, 'valid', or 'same'"):
        model.init(jax.random.key(0), X[..., None])


def test_a_prior_of_the_layers_is_paid_for():
    """The KL sown by a diagonal layer is the sum over its weights."""
    model = bayes.DenseVariational(2, covariance="diagonal", prior=GaussianPrior(0.7, 0.1))
    params = conv_params(model, X)
    scale = jax.nn.softplus(params["raw_scale"]) + 1e-5
    kl = (scale**2 + (params["loc"] - 0.1) ** 2) / (2 * 0.49) - 0.5 - jnp.log(scale / 0.7)
    _, state = model.apply({"params": params}, X, jax.random.key(0), mutable=["kl"])
    np.testing.assert_allclose(state["kl"]["kl"], jnp.sum(kl), rtol=1e-12)
