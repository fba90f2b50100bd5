"""Models with state and with a mode, through every loss that takes a model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprob import bayes, heads, objectives, training
from jaxprob import nn as layers
from jaxprob.objectives import GaussianPrior

X = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, (20, 2)))
DATA = {"x": X, "y": X[:, :1] * 0.5}
KEY = jax.random.key(0)


class Flagged(nn.Module):
    """Batch statistics and Linen's own dropout, as flax's examples write them."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        h = nn.tanh(layers.BatchNorm()(nn.Dense(4)(x), train=train))
        h = nn.Dropout(0.5, deterministic=not train)(h)
        return heads.NormalHead()(h)


class Keyed(nn.Module):
    """Dropout by an explicit key, no state."""

    @nn.compact
    def __call__(self, x, key=None, deterministic: bool = True):
        h = layers.Dropout(0.5)(nn.Dense(4)(x), key, train=not deterministic)
        return heads.NormalHead()(h)


@pytest.fixture(scope="module")
def variables():
    start = jax.jit(Flagged().init)(KEY, X)
    return jax.tree.map(lambda leaf: leaf.astype(X.dtype), start)


def test_params_and_variables_are_each_others_inverse(variables):
    params = layers.as_params(variables)
    assert set(params) == {"params", "collections"}
    assert jax.tree.structure(layers.as_variables(params)) == jax.tree.structure(dict(variables))
    plain = Keyed().init(KEY, X)
    assert layers.as_params(plain) is plain["params"]
    assert layers.as_variables(plain["params"]) == plain


LOSSES = {
    "likelihood": objectives.negative_log_likelihood(Flagged()),
    "map": objectives.map_loss(Flagged(), GaussianPrior(), 20),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_trains_in_one_mode_and_validates_in_the_other(variables, name):
    loss_fn, params = LOSSES[name], layers.as_params(variables)
    loss, metrics = jax.jit(loss_fn)(params, DATA, KEY)
    prediction, state = Flagged().apply(
        variables, X, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"]
    )
    nll = -jnp.mean(prediction.log_prob(DATA["y"]))
    np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-12)
    stats = jax.tree.leaves(state)
    for ours, expected in zip(jax.tree.leaves(metrics["collections"]), stats, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)
    quiet, metrics = jax.jit(loss_fn.evaluate)(params, DATA, KEY)
    nll = -jnp.mean(Flagged().apply(variables, X).log_prob(DATA["y"]))
    np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-12)
    assert "collections" not in metrics
    assert quiet != loss
    if name == "map":
        log_prior = GaussianPrior().log_prob(variables["params"])
        np.testing.assert_allclose(metrics["log_prior"], log_prior, rtol=1e-12)


def test_dropout_by_an_explicit_key():
    params = Keyed().init(KEY, X)["params"]
    loss_fn = objectives.negative_log_likelihood(Keyed())
    expected = Keyed().apply({"params": params}, X, KEY, False).log_prob(DATA["y"])
    np.testing.assert_allclose(loss_fn(params, DATA, KEY)[0], -jnp.mean(expected), rtol=1e-12)
    assert loss_fn(params, DATA, jax.random.key(1))[0] != loss_fn(params, DATA, KEY)[0]
    quiet = loss_fn.evaluate(params, DATA, KEY)[0]
    np.testing.assert_allclose(quiet, loss_fn.evaluate(params, DATA, jax.random.key(1))[0])


@pytest.fixture(scope="module")
def bayesian():
    q = bayes.GaussianPosterior(Flagged(), X[:2], "diagonal", init_scale=0.01)
    fitted = training.fit(
        bayes.negative_elbo(q, 20, num_samples=2),
        q.init(KEY),
        DATA,
        optimizer=optax.adam(1e-2),
        epochs=60,
        batch_size=20,
        key=KEY,
        validation=DATA,
        progress=False,
    )
    return q, fitted


def test_a_posterior_over_a_model_with_state(bayesian):
    """Running statistics follow the draws: near the mean weights, those of the data."""
    q, fitted = bayesian
    assert set(fitted.params) == {"posterior", "collections"}
    weights = q.mean(fitted.params)["params"]
    hidden = X @ weights["Dense_0"]["kernel"] + weights["Dense_0"]["bias"][None]
    running = fitted.params["collections"]["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(running["running_mean"], hidden.mean(0), atol=0.3)
    assert np.any(np.abs(hidden.mean(0)) > 0.5)  # zero, the start, would not pass
    assert fitted.history["validation_nll"][-1] < fitted.history["validation_nll"][0]


def test_its_draws_predict(bayesian):
    q, fitted = bayesian
    draws = q.sample(fitted.params, KEY, 5)
    assert set(draws) == {"params", "batch_stats"}
    predictive = bayes.predict(Flagged(), draws, X)
    one = jax.tree.map(lambda leaf: leaf[2], draws)
    expected = Flagged().apply(one, X).distribution.loc
    np.testing.assert_allclose(predictive.components.distribution.loc[2], expected, rtol=1e-10)
