"""Models that behave otherwise in training, through every posterior; layers that are used twice."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

from jaxprob import bayes, heads, objectives, training
from jaxprob.distributions import Independent, Normal
from jaxprob.nn import BatchNorm
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior, LaplacePrior

X = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (16, 2)))
BATCH = {"x": X, "y": 0.5 * X[:, :1]}
KEY = jax.random.key(0)


class Flagged(nn.Module):
    """A variational layer, batch statistics and dropout behind it."""

    @nn.compact
    def __call__(self, x, key=None, train: bool = False):
        h = bayes.DenseVariational(3)(x, key)
        h = BatchNorm()(h, train=train)
        return heads.NormalHead()(nn.Dropout(0.0)(h, deterministic=not train))


def test_variational_layers_tell_the_model_that_it_is_trained():
    model = Flagged()
    params = jax.jit(bayes.VariationalLayers(model).init)(KEY, X)
    loss_fn = bayes.negative_elbo(model, 16)
    _, metrics = jax.jit(loss_fn)(params, BATCH, KEY)
    seen = metrics["collections"]["batch_stats"]["BatchNorm_0"]["running_mean"]
    assert np.all(seen != 0.0)
    quiet, metrics = jax.jit(loss_fn.evaluate)(params, BATCH, KEY)
    assert "collections" not in metrics
    draw = jax.random.split(KEY, 1)[0]
    variables = {"params": params["params"], **params["collections"]}
    prediction = model.apply(variables, X, draw, mutable=["kl"])[0]
    np.testing.assert_allclose(metrics["nll"], -jnp.mean(prediction.log_prob(BATCH["y"])))


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x, key=None):
        layer = bayes.DenseVariational(2, covariance="diagonal")
        return layer(layer(x, key), key)


def test_a_layer_that_is_called_twice_pays_once():
    shapes = jax.eval_shape(lambda key: Tied().init(key, X)["params"], KEY)
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.3), shapes)
    single = bayes.DenseVariational(2, covariance="diagonal")
    inner = params["DenseVariational_0"]
    kl = single.apply({"params": inner}, X, KEY, mutable=["kl"])[1]["kl"]["kl"]
    twice = Tied().apply({"params": params}, X, KEY, mutable=["kl"])[1]["kl"]
    np.testing.assert_allclose(twice["DenseVariational_0"]["kl"], kl, rtol=1e-12)


@pytest.mark.parametrize("estimator", ["local", "flipout"])
def test_diagonal_layers_hold_no_square_of_their_weights(estimator):
    model = bayes.DenseVariational(5, covariance="diagonal", estimator=estimator)
    shapes = jax.eval_shape(lambda key: model.init(key, X)["params"], KEY)

    def total(params):
        return jnp.sum(model.apply({"params": params}, X, KEY, mutable=["kl"])[0])

    size = shapes["loc"].size
    assert f"[{size},{size}]" not in str(jax.make_jaxpr(jax.grad(total))(shapes))


class Noisy(nn.Module):
    """All of it is dropped in training."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        return heads.NormalHead()(nn.Dropout(0.9, deterministic=not train)(nn.Dense(4)(x)))


@pytest.mark.slow
def test_validation_in_short_floats_is_in_the_mode_of_prediction():
    params = Noisy().init(KEY, X)["params"]
    data = jax.tree.map(lambda v: v.astype(jnp.float32), BATCH)
    histories = [
        training.fit(
            objectives.negative_log_likelihood(Noisy()),
            jax.tree.map(lambda w: w.astype(jnp.float32), params),
            data,
            optimizer=optax.sgd(0.0),
            epochs=1,
            batch_size=16,
            key=KEY,
            validation=data,
            progress=False,
            compute_dtype=dtype,
        ).history
        for dtype in (None, jnp.bfloat16)
    ]
    full, short = (float(h["validation_nll"][0]) for h in histories)
    np.testing.assert_allclose(short, full, rtol=0.05)
    assert abs(float(histories[0]["nll"][0]) - full) > 0.06 * abs(full)


def test_weights_of_another_shape_are_refused():
    model = heads.NormalHead()
    params = model.init(KEY, X)["params"]
    bad = {**BATCH, "weight": jnp.ones((16, 1))}
    message = "weight.*shape \\(16, 1\\); expected one weight for each row"
    with pytest.raises(ValueError, match=message):
        bayes.log_joint(model, GaussianPrior(), bad)(params)
    with pytest.raises(ValueError, match=message):
        bayes.minibatch_log_joint(model, GaussianPrior(), 16)(params, bad)
    with pytest.raises(ValueError, match=message):
        bayes.Laplace(model, X[:1], "full").fit(params, bad)


def test_priors_that_cannot_serve_are_refused():
    model = heads.NormalHead()
    with pytest.raises(ValueError, match="must be a GaussianPrior"):
        bayes.Laplace(model, X[:1], "full", LaplacePrior(0.1))
    hierarchical = HierarchicalGaussianPrior()
    dropping = nn.Sequential([nn.Dropout(0.5, deterministic=False), model])
    for make in (
        lambda: objectives.map_loss(model, hierarchical, 16),
        lambda: bayes.log_joint(model, hierarchical, BATCH),
        lambda: bayes.minibatch_log_joint(model, hierarchical, 16),
        lambda: bayes.MCDropout(dropping, X[:1]).loss(hierarchical, 16),
    ):
        with pytest.raises(ValueError, match="parts that are learned"):
            make()


def test_a_vague_prior_starts_a_stream():
    q = bayes.GaussianPosterior(heads.NormalHead(), X[:1], "diagonal", GaussianPrior(1e4))
    block = bayes.prior_params(q)["posterior"]
    scale = jax.nn.softplus(next(iter(block.values()))["raw_scale"])
    np.testing.assert_allclose(scale, 1e4, rtol=1e-6)


class Product(nn.Module):
    """A linear model with two inputs, one of them by name, and known noise."""

    takes = ("exposure",)

    @nn.compact
    def __call__(self, x, exposure):
        loc = nn.Dense(1, use_bias=False)(x * exposure[:, None])
        return Independent(Normal(loc, jnp.full_like(loc, 0.5)), 1)


def test_an_update_of_a_model_with_two_inputs():
    exposure = jnp.linspace(0.5, 2.0, 16)
    data = {**BATCH, "exposure": exposure}
    q = bayes.GaussianPosterior(Product(), data, "full", GaussianPrior(2.0))
    start = bayes.prior_params(q, q.mean(q.init(KEY)))
    params = bayes.update(q, start, data, key=KEY, num_steps=1)
    design = np.asarray(X * exposure[:, None])
    precision = design.T @ design / 0.25 + np.eye(2) / 4.0
    exact = np.linalg.solve(precision, design.T @ np.asarray(BATCH["y"])[:, 0] / 0.25)
    np.testing.assert_allclose(params["posterior"]["all"]["loc"], exact, rtol=1e-4, atol=1e-6)


def test_what_is_no_batch_or_no_prior_is_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
    model = heads.NormalHead()
    params = model.init(KEY, X)["params"]
    q = bayes.GaussianPosterior(model, X[:1])
    start, laplace = q.init(KEY), bayes.Laplace(model, X[:1])
    bad = {
        r'needs batch\["y"\], the targets of the rows; the batch holds \'x\'': (
            lambda: bayes.negative_elbo(q, 16)(start, {"x": X}, KEY),
            lambda: bayes.log_joint(model, GaussianPrior(), {"x": X})(params),
            lambda: laplace.fit(params, {"x": X}),
        ),
        "must be a dict of arrays": (
            lambda: bayes.log_joint(model, GaussianPrior(), X),
            lambda: bayes.update(q, start, (X, X), key=KEY),
            lambda: laplace.fit(params, (X, X)),
        ),
        r"the prior must have a method log_prob\(params\); got 5.0": (
            lambda: objectives.map_loss(model, 5.0, 16),
            lambda: bayes.GaussianPosterior(model, X[:1], prior=5.0),
        ),
    }
    for message, calls in bad.items():
        for call in calls:
            with pytest.raises(ValueError, match=message):
                call()
