"""`predict` against a loop over draws, and variational layers against `nn.Dense`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxprob import bayes
from jaxprob.batches import Inputs
from jaxprob.bayes import gaussian_block, prediction
from jaxprob.distributions import MultivariateNormal
from jaxprob.heads import NormalHead
from jaxprob.objectives import GaussianPrior

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(4, 2)))
S = 3
LISTED = nn.Sequential([nn.Dense(3), nn.tanh, nn.Sequential([NormalHead(2)])])


def random_params(shapes, leading=()):
    """Values in general position for a tree of shapes, float64."""
    return jax.tree.map(lambda w: jnp.asarray(0.6 * RNG.normal(size=(*leading, *w.shape))), shapes)


def shapes_of(model, x=X):
    return jax.eval_shape(model.init, KEY, x)["params"]


def draw_of(draws, s):
    return jax.tree.map(lambda w: w[s], draws)


def test_prediction_is_the_mixture_over_a_loop_of_draws():
    draws = random_params(shapes_of(LISTED), (S,))
    predictive = bayes.predict(LISTED, draws, X)
    each = [LISTED.apply({"params": draw_of(draws, s)}, X).distribution for s in range(S)]
    loc, scale = np.stack([d.loc for d in each]), np.stack([d.scale for d in each])
    assert predictive.num_draws == S
    np.testing.assert_allclose(predictive.components.distribution.loc, loc, rtol=1e-12)
    np.testing.assert_allclose(predictive.components.distribution.scale, scale, rtol=1e-12)
    np.testing.assert_allclose(predictive.mean(), loc.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(predictive.aleatoric, (scale**2).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(predictive.epistemic, loc.var(axis=0), rtol=1e-9)
    y = RNG.normal(size=(4, 2))
    log_prob = scipy.stats.norm.logpdf(y, loc, scale).sum(axis=-1)
    expected = scipy.special.logsumexp(log_prob, axis=0) - np.log(S)
    np.testing.assert_allclose(predictive.log_prob(y), expected, rtol=1e-12)


def test_a_second_prediction_is_not_traced_again():
    traces = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x):
            traces.append(x.shape)
            return NormalHead(1)(x)

    model = nn.Sequential([Counted()])
    shapes = shapes_of(model)
    traces.clear()
    bayes.predict(model, random_params(shapes, (S,)), X)
    bayes.predict(nn.Sequential([Counted()]), random_params(shapes, (S,)), X + 1)
    assert traces == [X.shape]


def test_draws_need_a_common_leading_axis():
    shapes = shapes_of(LISTED)
    with pytest.raises(ValueError, match=r"leading axis S of draws; got .*\(2,\), \(3,\)"):
        bayes.predict(LISTED, random_params(shapes), X)
    with pytest.raises(ValueError, match=r"leading axis S of draws; got leading sizes \[\(0,\)\]"):
        bayes.predict(LISTED, random_params(shapes, (0,)), X)
    with pytest.raises(ValueError, match=r"single set of params add the axis: jax.tree.map"):
        bayes.predict(nn.Sequential([]), {"w": jnp.zeros(())}, X)


def test_a_nan_in_the_inputs_is_shown():
    draws = random_params(shapes_of(LISTED), (S,))
    message = r"predict: x must be finite; 1 of 8 .*index \(2, 1\): nan"
    with pytest.raises(ValueError, match=message):
        bayes.predict(LISTED, draws, X.at[2, 1].set(jnp.nan))


# Chunks, draws made when needed, variables


def assert_same(found, expected):
    assert found.batch_shape == expected.batch_shape
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 2},
        {"chunk_size": 3, "draws_at_once": 2},
        {"draws_at_once": 1},
        {"chunk_size": 9, "draws_at_once": 9},
    ],
)
def test_chunks_change_nothing(options):
    model = nn.Sequential([nn.Dense(3), nn.tanh, NormalHead(2, homoscedastic=True)])
    draws = random_params(shapes_of(model), (S,))
    found = bayes.predict(model, draws, X, **options)
    assert_same(found, bayes.predict(model, draws, X))
    y = RNG.normal(size=(4, 2))
    assert found.log_prob(y).shape == (4,)


def shift(params, key):
    noise = jax.random.normal(key, (), jnp.float64)
    return jax.tree.map(lambda w: w + noise, params)


def test_draws_made_when_needed_are_those_made_before():
    params, keys = random_params(shapes_of(LISTED)), jax.random.split(KEY, S)
    draws = jax.vmap(shift, in_axes=(None, 0))(params, keys)
    expected = bayes.predict(LISTED, draws, X)
    lazy = bayes.LazyDraws(shift, params, keys)
    assert_same(bayes.predict(LISTED, lazy, X, chunk_size=3), expected)
    assert_same(bayes.predict(LISTED, lazy, X, draws_at_once=2), expected)


def temporary_bytes(model, sample, rows, at_once, draws, x):
    compiled = prediction._predict.lower(
        model, sample, rows, at_once, draws, Inputs((x,), {})
    ).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_is_bounded_by_the_chunk():
    wide = nn.Sequential((nn.Dense(64), nn.tanh, nn.Dense(64), nn.tanh, NormalHead(1)))
    x, draws = jnp.zeros((512, 2)), 8
    shapes = jax.eval_shape(wide.init, KEY, x)["params"]
    stacked = jax.tree.map(lambda w: jnp.zeros((draws, *w.shape)), shapes)
    hidden = 64 * 8  # bytes of one hidden layer, for one row and one draw
    whole = temporary_bytes(wide, None, None, None, stacked, x)
    assert whole >= draws * 512 * hidden
    one_draw = temporary_bytes(wide, None, None, 1, stacked, x)
    assert one_draw <= whole / 4
    rows = temporary_bytes(wide, None, 32, 1, stacked, x)
    outputs = 4 * draws * 512 * 2 * 8  # the predictions, in a few copies
    assert rows <= outputs + 3 * 32 * hidden + 2 * 64 * 64 * 8
    # Draws made when needed: the largest layer of all draws is never there at once.
    params = jax.tree.map(lambda w: w[0], stacked)
    keys = jax.random.split(KEY, draws)
    lazy = temporary_bytes(wide, shift, 32, 1, (params, keys), x)
    assert lazy <= outputs + 3 * 32 * hidden + 4 * 64 * 64 * 8


def test_a_draw_may_be_a_whole_variables_dict():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, x):
            return NormalHead(1)(nn.BatchNorm(use_running_average=True)(x))

    shapes = jax.eval_shape(Normalised().init, KEY, X)
    draws = jax.tree.map(jnp.exp, random_params(dict(shapes), (S,)))
    found = bayes.predict(Normalised(), draws, X).components.distribution.loc
    for s in range(S):
        expected = Normalised().apply(draw_of(draws, s), X).distribution.loc
        np.testing.assert_allclose(found[s], expected, rtol=1e-12)


def test_bad_chunks_and_meshes():
    draws = random_params(shapes_of(LISTED), (S,))
    for name in ("chunk_size", "draws_at_once"):
        with pytest.raises(ValueError, match=f"predict: {name} must be at least 1; got 0"):
            bayes.predict(LISTED, draws, X, **{name: 0})
    mesh = jax.make_mesh((1,), ("member",))
    with pytest.raises(ValueError, match="give either a mesh or chunks; got both"):
        bayes.predict(LISTED, draws, X, mesh=mesh, chunk_size=2)
    with pytest.raises(ValueError, match=r'named "data" or "member"; got \(.model.,\)'):
        bayes.predict(LISTED, draws, X, mesh=jax.make_mesh((1,), ("model",)))
    two = jax.sharding.Mesh(np.array(2 * [jax.devices()[0]]), ("member",))
    with pytest.raises(ValueError, match="must divide the number of draws; got 3"):
        bayes.predict(LISTED, draws, X, mesh=two)
    assert_same(bayes.predict(LISTED, draws, X, mesh=mesh), bayes.predict(LISTED, draws, X))


# Variational layers

MLP = bayes.BayesianMLP((3,), features=2, prior=GaussianPrior(0.7, 0.1, ("loc", "scale")))


def dense_outputs(weights, x=X):
    """The network of `MLP`, made of `nn.Dense`, under one vector of weights for each layer."""
    h = x
    for i, (name, width) in enumerate({"dense_0": 3, "dense_1": 4}.items()):
        bias, kernel = weights[name][:width], weights[name][width:].reshape(h.shape[-1], width)
        h = nn.Dense(width).apply({"params": {"kernel": kernel, "bias": bias}}, h)
        h = nn.sigmoid(h) if i == 0 else h
    return h[:, :2], np.log1p(np.exp(h[:, 2:])) + 1e-4


def assert_predicts(distribution, weights):
    normal = distribution.distribution
    loc, scale = dense_outputs(weights)
    np.testing.assert_allclose(normal.loc, loc, rtol=1e-10)
    np.testing.assert_allclose(normal.scale, scale, rtol=1e-10)


@pytest.mark.parametrize(
    ("covariance", "count"), [("full", 152 + 189), ("diagonal", 2 * 16 + 2 * 18)]
)
def test_numbers_of_parameters_of_the_reference_model(covariance, count):
    params = shapes_of(bayes.BayesianMLP((8,), covariance=covariance), X[:, :1])
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count
    assert set(params) == {"dense_0", "dense_1"}


def test_without_a_key_the_means_are_the_weights():
    params = random_params(shapes_of(MLP))
    weights = {name: params[name]["loc"] for name in ("dense_0", "dense_1")}
    assert_predicts(MLP.apply({"params": params}, X), weights)


@pytest.mark.parametrize("covariance", ["full", "diagonal"])
def test_draws_of_variational_layers_are_weights_of_dense_layers(covariance):
    model = MLP.clone(covariance=covariance)
    layers, params = bayes.VariationalLayers(model), random_params(shapes_of(MLP))
    if covariance == "diagonal":
        params = random_params(shapes_of(model))
    draws = layers.sample(params, KEY, S)
    predictive = bayes.predict(model, draws, X)
    keys = jax.random.split(KEY, 2)
    for s in range(S):
        weights = {name: draws[name]["loc"][s] for name in ("dense_0", "dense_1")}
        assert_predicts(jax.tree.map(lambda leaf, s=s: leaf[s], predictive.components), weights)
    for name, key in zip(("dense_0", "dense_1"), keys, strict=True):
        # Each draw is loc + L eps.
        eps = jax.random.normal(key, draws[name]["loc"].shape, jnp.float64)
        factor = np.asarray(gaussian_block.scale_tril(params[name]))
        expected = np.asarray(params[name]["loc"]) + np.asarray(eps) @ factor.T
        np.testing.assert_allclose(draws[name]["loc"], expected, rtol=1e-10)


def test_the_elbo_of_variational_layers():
    layers, params = bayes.VariationalLayers(MLP), random_params(shapes_of(MLP))
    kl = 0.0
    for layer in params.values():
        size = layer["loc"].size
        prior = np.exp(layer["prior_log_scale"]) * np.eye(size)
        posterior = MultivariateNormal(layer["loc"], gaussian_block.scale_tril(layer))
        kl += posterior.kl_divergence(MultivariateNormal(layer["prior_loc"], prior))
    y = RNG.normal(size=(4, 2))
    loss_fn = jax.jit(bayes.negative_elbo(MLP, num_data=40, num_samples=S))
    loss, metrics = loss_fn(params, {"x": X, "y": y}, KEY)
    one_draw = jax.jit(lambda key: MLP.apply({"params": params}, X, key, mutable="kl")[0])
    log_prob = [one_draw(key).log_prob(y) for key in jax.random.split(KEY, S)]
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-10)
    np.testing.assert_allclose(metrics["nll"], -np.mean(log_prob), rtol=1e-10)
    np.testing.assert_allclose(loss, metrics["nll"] + kl / 40, rtol=1e-10)
    np.testing.assert_allclose(jax.jit(layers.kl)(params, X), kl, rtol=1e-10)


def test_bad_layers():
    with pytest.raises(ValueError, match="covariance must be one of full, diagonal; got 'layer'"):
        shapes_of(bayes.DenseVariational(2, covariance="layer"))

    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x, key=None):
            return NormalHead(1)(x)

    batch = {"x": X, "y": X[:, :1]}
    with pytest.raises(ValueError, match="Plain has no variational layer: .* GaussianPosterior"):
        bayes.negative_elbo(Plain(), 4)(random_params(shapes_of(Plain())), batch, KEY)


class Scaled(nn.Module):
    """A model with two inputs."""

    @nn.compact
    def __call__(self, x, exposure):
        return NormalHead()(nn.Dense(2)(x) * exposure[:, None])


def test_a_model_with_several_inputs():
    rng = np.random.default_rng(3)
    inputs = jnp.asarray(rng.normal(size=(5, 3))), jnp.asarray(rng.uniform(size=5))
    model = Scaled()
    keys = jax.random.split(jax.random.key(0), 3)
    draws = jax.vmap(lambda key: model.init(key, *inputs)["params"])(keys)
    predictive = bayes.predict(model, draws, inputs)
    last = jax.tree.map(lambda leaf: leaf[2], draws)
    expected = model.apply({"params": last}, *inputs).distribution.loc
    np.testing.assert_allclose(predictive.components.distribution.loc[2], expected, rtol=1e-12)
    chunked = bayes.predict(model, draws, inputs, chunk_size=2)
    np.testing.assert_allclose(chunked.mean(), predictive.mean(), rtol=1e-12)
    with pytest.raises(ValueError, match="must share their leading axis B"):
        bayes.predict(model, draws, (inputs[0], inputs[1][:4]))
