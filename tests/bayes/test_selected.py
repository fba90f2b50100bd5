"""Posteriors over a part of the weights, over models with state, and how models are called."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxprob import bayes, heads, training
from jaxprob import nn as layers
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior, SpikeAndSlabPrior

KEY = jax.random.key(0)
RNG = np.random.default_rng(1)
ROWS, NOISE = 15, 0.4
X = RNG.normal(size=(ROWS, 2))
Y = np.tanh(X @ np.array([[1.0], [-2.0]])) + NOISE * RNG.normal(size=(ROWS, 1))
DATA = {"x": X, "y": Y}
PRIOR = GaussianPrior(1.5, 0.2)


class Features(nn.Module):
    """A hidden layer, and a line over it with noise of known scale."""

    @nn.compact
    def __call__(self, x):
        h = jnp.tanh(nn.Dense(3, param_dtype=jnp.float64, name="body")(x))
        return Independent(Normal(nn.Dense(1, param_dtype=jnp.float64, name="head")(h), NOISE), 1)


MODEL = Features()
LAST = bayes.GaussianPosterior(MODEL, X[:1], "full", PRIOR, select=lambda p: p.startswith("head"))


def exact_head(body):
    """Mean and precision of (bias, kernel) of the head under features that are known."""
    h = np.tanh(X @ np.asarray(body["kernel"]) + np.asarray(body["bias"]))
    design = np.concatenate([np.ones((ROWS, 1)), h], axis=1)
    precision = design.T @ design / NOISE**2 + np.eye(4) / PRIOR.scale**2
    right = design.T @ Y[:, 0] / NOISE**2 + PRIOR.loc / PRIOR.scale**2
    of_y = NOISE**2 * np.eye(ROWS) + PRIOR.scale**2 * design @ design.T
    mean = PRIOR.loc * design.sum(axis=1)
    evidence = scipy.stats.multivariate_normal(mean, of_y).logpdf(Y[:, 0])
    return np.linalg.solve(precision, right), precision, evidence


def test_a_bayesian_last_layer_is_exact_by_one_update():
    params = bayes.prior_params(LAST, MODEL.init(KEY, X)["params"])
    assert set(params) == {"posterior", "point"}
    assert set(params["point"]) == {"body"}
    new = bayes.update(LAST, params, DATA, key=KEY, num_steps=1, num_samples=1)
    mean, precision, evidence = exact_head(params["point"]["body"])
    chex.assert_trees_all_equal(new["point"], params["point"])
    block = new["posterior"]["all"]
    np.testing.assert_allclose(block["loc"], mean, rtol=1e-8)
    factor = bayes.gaussian_block.scale_tril(block)
    np.testing.assert_allclose(factor @ factor.T, np.linalg.inv(precision), rtol=1e-7)
    # at the exact posterior the bound of one draw, less its log-ratio, is the evidence
    draws = LAST.sample(new, KEY, 2)
    assert jax.tree.map(jnp.shape, draws["body"]) == {"bias": (2, 3), "kernel": (2, 2, 3)}
    loss, metrics = jax.jit(bayes.negative_elbo(LAST, ROWS))(new, DATA, KEY)
    draw = jax.tree.map(lambda w: w[0], LAST.sample(new, KEY, 1))
    log_ratio = LAST.log_prob(new, draw) - PRIOR.log_prob(draw["head"])
    np.testing.assert_allclose(-ROWS * metrics["nll"] - log_ratio, evidence, rtol=1e-9)
    np.testing.assert_allclose(loss, metrics["nll"] + LAST.kl(new) / ROWS, rtol=1e-12)


def test_the_kl_of_other_priors_is_that_of_the_selected_weights():
    prior = SpikeAndSlabPrior(1.0, 0.1)
    q = bayes.GaussianPosterior(MODEL, X[:1], "diagonal", prior, select=lambda p: "head" in p)
    params = q.init(KEY)
    draws = q.sample(params, KEY, 3)
    expected = [
        q.log_prob(params, draw) - prior.log_prob(draw["head"])
        for draw in (jax.tree.map(lambda w, s=s: w[s], draws) for s in range(3))
    ]
    np.testing.assert_allclose(q.kl(params, draws), np.mean(expected), rtol=1e-12)
    assert q.num_weights == 4
    assert "2 arrays as numbers" in repr(q)


def test_the_others_are_trained_beside_natural_gradients():
    q = bayes.GaussianPosterior(MODEL, X[:1], "diagonal", PRIOR, select=lambda p: "head" in p)
    start = q.init(KEY)
    optimizer = optax.multi_transform(
        {"q": bayes.natural_gradient(ROWS, 0.2, 0.2), "w": optax.adam(1e-2)},
        {"posterior": "q", "point": "w"},
    )
    fitted = training.fit(
        bayes.negative_elbo(q, ROWS, 8), start, DATA, optimizer=optimizer, steps=60, key=KEY,
        progress=False,
    )  # fmt: skip
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), fitted.params, start)
    assert min(jax.tree.leaves(moved)) > 1e-3
    with pytest.raises(ValueError, match="not select have no natural gradient"):
        bayes.natural_gradient(ROWS).init(start)


def test_selections_that_take_nothing_or_lack_params_are_refused():
    with pytest.raises(ValueError, match="GaussianPosterior: select takes none of the weights"):
        bayes.GaussianPosterior(MODEL, X[:1], select=lambda p: p == "headd")
    with pytest.raises(ValueError, match=r"Write prior_params\(q, params\)"):
        bayes.prior_params(LAST)


class Stateful(nn.Module):
    """Batch statistics, told whether it is trained by an argument without a default."""

    @nn.compact
    def __call__(self, x, train):
        h = layers.BatchNorm()(nn.Dense(3)(x), train=train)
        h = nn.Dropout(0.4, deterministic=not train)(h)
        return heads.NormalHead()(h)


class TrainedUnlessTold(nn.Module):
    """The same with a default that trains, and a key that must be given."""

    @nn.compact
    def __call__(self, x, key, train: bool = True):
        h = layers.BatchNorm()(nn.Dense(3)(x), train=train)
        return heads.NormalHead()(layers.Dropout(0.4)(h, key, train=train))


MODELS = [Stateful(), TrainedUnlessTold()]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_a_model_is_called_in_the_mode_that_is_meant(model):
    q = bayes.GaussianPosterior(model, X[:1], "diagonal", SpikeAndSlabPrior())
    params = q.init(KEY)
    loss, metrics = jax.jit(bayes.negative_elbo(q, ROWS))(params, DATA, KEY)
    assert np.isfinite(loss)
    assert set(metrics["collections"]) == {"batch_stats"}
    params["collections"] = metrics["collections"]
    draws = q.sample(params, KEY, 2)
    predictive = bayes.predict(model, draws, X)
    options = {"train": False} | ({"key": None} if isinstance(model, TrainedUnlessTold) else {})
    one = jax.tree.map(lambda leaf: leaf[1], draws)
    expected = model.apply(one, X, **options).distribution.loc
    np.testing.assert_allclose(predictive.components.distribution.loc[1], expected, rtol=1e-6)
    # draws with their collections are what `kl` and `log_prob` take
    ratios = [
        q.log_prob(params, draw) - q.prior.log_prob(draw["params"])
        for draw in (jax.tree.map(lambda leaf, s=s: leaf[s], draws) for s in range(2))
    ]
    np.testing.assert_allclose(q.kl(params, draws), np.mean(ratios), rtol=1e-5)
    bare = jax.tree.map(lambda leaf: leaf[1], draws["params"])
    np.testing.assert_allclose(q.log_prob(params, bare), q.log_prob(params, one), rtol=1e-6)
    mean = q.mean(params)
    assert set(mean) == {"params", "batch_stats"}
    centre = bayes.predict(model, jax.tree.map(lambda leaf: leaf[None], mean), X)
    expected = model.apply(mean, X, **options).mean()
    np.testing.assert_allclose(centre.mean(), expected, rtol=1e-6)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_ensembles_and_dropout_start_in_the_mode_of_prediction(model):
    members = bayes.DeepEnsemble(model, X[:1], 2).init(KEY)
    assert set(members) == {"params", "collections"}
    mc = bayes.MCDropout(model, X[:1])
    loss, _ = mc.loss()(mc.init(KEY), DATA, KEY)
    assert np.isfinite(loss)


class TwoInputs(nn.Module):
    """A variational layer over two inputs, and batch statistics of what it returns."""

    @nn.compact
    def __call__(self, x, exposure, key=None, train: bool = True):
        h = bayes.DenseVariational(3, name="layer")(jnp.concatenate([x, exposure], -1), key)
        return heads.NormalHead()(layers.BatchNorm()(h, train=train))


def test_variational_layers_take_several_inputs():
    q = bayes.VariationalLayers(TwoInputs())
    exposure = np.ones((ROWS, 1))
    batch = {**DATA, "exposure": exposure}
    params = q.init(KEY, (X, exposure))
    named = q.init(KEY, batch, inputs=("x", "exposure"))
    chex.assert_trees_all_equal(params, named)
    kl = q.kl(params, (X, exposure))
    np.testing.assert_array_equal(kl, q.kl(params, batch, ("x", "exposure")))
    inner = params["params"]["layer"]
    np.testing.assert_allclose(kl, bayes.gaussian_block.kl_to_prior(inner, 0.0, 1.0, 0.0))
    loss, metrics = bayes.negative_elbo(q, ROWS, inputs=("x", "exposure"))(params, batch, KEY)
    np.testing.assert_allclose(loss, metrics["nll"] + kl / ROWS, rtol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "covariance"),
    [("weights", "full"), ("local", "diagonal"), ("flipout", "diagonal")],
)
def test_a_single_row_gives_a_single_row(estimator, covariance):
    """[D] to [F], without a key and with one; also as one of many under vmap; [B, T, D] too."""
    layer = bayes.DenseVariational(4, covariance, estimator=estimator)
    x = jnp.asarray(X[0])
    params = layer.init(KEY, x[None])["params"]
    assert layer.apply({"params": params}, x).shape == (4,)
    random = layer.apply({"params": params}, x, KEY)
    assert random.shape == (4,)
    keys = jax.random.split(KEY, 3000)
    many = jax.vmap(lambda key: layer.apply({"params": params}, x, key))(keys)
    mean = layer.apply({"params": params}, x[None])[0]
    factor = bayes.gaussian_block.scale_tril(params)
    design = np.concatenate([np.eye(4), np.kron(X[0], np.eye(4))], axis=1)
    covariance = design @ np.asarray(factor @ factor.T) @ design.T
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(many.mean(0) - mean) < 4.5 * sd / 3000**0.5).all()
    np.testing.assert_allclose(many.std(0), sd, rtol=4.5 / 6000**0.5)
    assert layer.apply({"params": params}, jnp.ones((2, 5, 2)), KEY).shape == (2, 5, 4)


@pytest.mark.parametrize(
    "structure",
    [
        "last_layer",
        "kron",
        *[pytest.param(s, marks=pytest.mark.slow) for s in ("full", "diagonal")],
    ],
)
def test_laplace_updates_float32_weights_with_float64_rows(structure):
    # of a whole network the two may end in different modes
    hidden = [layers.MLP((3,), nn.tanh)] if structure == "last_layer" else []
    model = nn.Sequential([*hidden, heads.NormalHead()])
    start = model.init(KEY, X.astype(np.float32))["params"]
    log_joint = bayes.log_joint(model, PRIOR, DATA)
    reached = []
    for dtype in (jnp.float32, jnp.float64):
        params = jax.tree.map(lambda w, dtype=dtype: w.astype(dtype), start)
        laplace = bayes.Laplace(model, X[:1].astype(dtype), structure, PRIOR)
        old = bayes.prior_params(laplace, params)
        state = bayes.update(laplace, old, DATA, start=params, num_steps=100)
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(state.mean))
        mean = jax.tree.map(lambda w: w.astype(jnp.float64), state.mean)
        reached.append(float(log_joint(mean)))
    np.testing.assert_allclose(*reached, atol=1e-4)


@pytest.mark.parametrize("covariance", ["diagonal", pytest.param("full", marks=pytest.mark.slow)])
def test_posteriors_update_float32_weights_with_float64_rows(covariance):
    q = bayes.GaussianPosterior(heads.NormalHead(), X[:1].astype(np.float32), covariance, PRIOR)
    start = jax.tree.map(lambda w: w.astype(jnp.float32), bayes.prior_params(q))
    options = {"key": KEY, "num_steps": 3, "step_size": 0.5}
    short = bayes.update(q, start, DATA, **options)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(short))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(short))


def test_a_posterior_prints_its_sizes():
    class Summed(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2000)(x)

    def density(w, batch=None):
        return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(w))

    init = jax.vmap(Summed().init, (0, None))(jax.random.split(KEY, 3), X)["params"]
    chains = bayes.SGLD(density, 0.01).run(KEY, init, {}, 4)
    assert repr(chains).startswith("Chains(chains=3, draws=4, by_chain=<72000 numbers in 2 arrays")
    laplace = bayes.Laplace(MODEL, X[:1], "full", PRIOR)
    state = bayes.prior_params(laplace, MODEL.init(KEY, X)["params"])
    swag = bayes.SWAG(3).collect(optax.sgd(0.1))
    snapshots = bayes.snapshots(optax.sgd(0.1), 3, 2)
    lazy = bayes.LazyDraws(lambda p, key: p, init, jax.random.split(KEY, 5))
    natural = bayes.natural_gradient(ROWS)
    q = bayes.GaussianPosterior(MODEL, X[:1], "diagonal")
    states = [
        chains, state, state.curvature, swag.init(init), snapshots.init(init), lazy,
        natural.init(q.init(KEY)), q.forward(q.init(KEY), (X,), KEY, 2),
    ]  # fmt: skip
    for each in states:
        text = repr(each)
        assert text.startswith(type(each).__name__ + "(")
        assert len(text) < 250
        assert "\n" not in text
    assert "prior_scale=1.5, num_data=0" in repr(state)
    seen = []
    jax.jit(lambda s: seen.append(repr(s)) or s.num_data)(state)
    assert "float64[]" in seen[0]
