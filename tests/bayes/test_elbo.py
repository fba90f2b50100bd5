"""`negative_elbo`: its parts, its errors, and the exact posterior of a linear model."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import scipy.stats

from jaxprob import bayes
from jaxprob.bayes import gaussian_block
from jaxprob.distributions import Independent, Normal
from jaxprob.objectives import GaussianPrior
from jaxprob.supervised import GaussianRegressor
from jaxprob.training import fit

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 1)), RNG.normal(size=(6, 1))
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(Y)}
MODEL = GaussianRegressor((2,))


def start(q):
    init = jax.jit(q.init)(KEY)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) + 0.1, init)


def log_likelihoods(q, params, key, num_samples):
    """log p(y_b | x_b, w_s), `[S, B]`, one draw after the other and by SciPy."""
    draws = q.sample(params, key, num_samples)
    rows = []
    for s in range(num_samples):
        normal = MODEL.apply({"params": jax.tree.map(lambda w, s=s: w[s], draws)}, X).distribution
        rows.append(scipy.stats.norm.logpdf(Y, normal.loc, normal.scale)[:, 0])
    return np.stack(rows)


@pytest.mark.parametrize("num_samples", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_the_loss_is_its_two_parts(num_samples):
    q = bayes.GaussianPosterior(MODEL, X[:1])
    params, weight = start(q), np.array([1.0, 0.0, 2.0, 1.0, 0.5, 3.0])
    log_prob = log_likelihoods(q, params, KEY, num_samples)
    loss_fn = jax.jit(bayes.negative_elbo(q, 50, num_samples, kl_weight=0.3))
    for batch, nll in (
        (BATCH, -log_prob.mean()),
        (BATCH | {"weight": weight}, -np.mean(log_prob * weight)),
    ):
        loss, metrics = loss_fn(params, batch, KEY)
        assert set(metrics) == {"nll", "kl"}
        np.testing.assert_allclose(metrics["nll"], nll, rtol=1e-12)
        np.testing.assert_allclose(metrics["kl"], q.kl(params), rtol=1e-12)
        np.testing.assert_allclose(loss, nll + 0.3 * metrics["kl"] / 50, rtol=1e-12)
    cold, _ = jax.jit(bayes.negative_elbo(q, 50, num_samples, kl_weight=0.0))(params, BATCH, KEY)
    np.testing.assert_allclose(cold, -log_prob.mean(), rtol=1e-12)


def test_a_trainable_prior_is_learned():
    prior = GaussianPrior(scale=0.5, loc=0.1, trainable=("loc", "scale"))
    q = bayes.GaussianPosterior(MODEL, X[:1], prior=prior)
    params = start(q)
    assert set(params) == {"posterior", "prior"}
    assert set(params["prior"]) == set(params["posterior"]) == {"backbone/hidden_0", "head/out"}
    loss_fn = bayes.negative_elbo(q, num_data=6)
    gradient = jax.jit(jax.grad(lambda p: loss_fn(p, BATCH, KEY)[0]))(params)["prior"]
    for name, learned in params["prior"].items():
        block, size = params["posterior"][name], params["posterior"][name]["loc"].size
        assert learned["loc"].shape == (size,)
        gap = np.asarray(learned["loc"] - block["loc"])
        squares = np.sum(np.asarray(gaussian_block.scale_tril(block)) ** 2) + np.sum(gap**2)
        variance = np.exp(2 * learned["log_scale"])
        # dKL/dm = (m - loc) / s^2 and dKL/dlog s = P - (|L|^2 + |m - loc|^2) / s^2, by hand.
        np.testing.assert_allclose(gradient[name]["loc"], gap / variance / 6, rtol=1e-10)
        np.testing.assert_allclose(
            gradient[name]["log_scale"], (size - squares / variance) / 6, rtol=1e-10
        )


class LinearModel(nn.Module):
    """y = b + w x + noise of known scale: the case with an exact posterior."""

    noise: float

    @nn.compact
    def __call__(self, x):
        loc = nn.Dense(1, param_dtype=jnp.float64)(x)
        return Independent(Normal(loc, self.noise), 1)


def test_the_exact_posterior_of_a_linear_model_is_found():
    rows, noise, prior = 20, 0.5, GaussianPrior(scale=2.0, loc=0.3)
    x = RNG.normal(size=(rows, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]]) + 0.7
    y = 0.4 + x @ np.array([[1.0], [-2.0]]) + noise * RNG.normal(size=(rows, 1))
    design = np.concatenate([np.ones((rows, 1)), x], axis=1)  # bias before kernel
    covariance = np.linalg.inv(np.eye(3) / prior.scale**2 + design.T @ design / noise**2)
    mean = covariance @ (prior.loc / prior.scale**2 + design.T @ y[:, 0] / noise**2)
    of_y = noise**2 * np.eye(rows) + prior.scale**2 * design @ design.T
    evidence = scipy.stats.multivariate_normal(prior.loc * design.sum(axis=1), of_y).logpdf(y[:, 0])

    q = bayes.GaussianPosterior(LinearModel(noise), x[:1], "full", prior)
    loss_fn = bayes.negative_elbo(q, rows, num_samples=16)
    steps = 3000
    fitted = fit(
        loss_fn,
        q.init(KEY),
        {"x": x, "y": y},
        optimizer=optax.adam(optax.cosine_decay_schedule(0.03, steps)),
        steps=steps,
        batch_size=rows,
        key=KEY,
        progress=False,
    )
    block = fitted.params["posterior"]["all"]
    factor = np.asarray(gaussian_block.scale_tril(block))
    # In units of the exact posterior: whitened, the mean is 0 and the covariance the identity. The
    # step size falls to 0, so what is left is the gradient noise of the last few hundred steps of
    # 16 draws, about 1 / sqrt(16 * 300) = 0.015; four times that is allowed.
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    np.testing.assert_allclose(whiten @ (block["loc"] - mean), np.zeros(3), atol=0.06)
    found = whiten @ factor @ factor.T @ whiten.T
    np.testing.assert_allclose(found, np.eye(3), atol=0.06)
    # There the bound is tight: -loss is the log evidence per row.
    many = jax.jit(bayes.negative_elbo(q, rows, num_samples=50_000))
    loss, _ = many(fitted.params, {"x": x, "y": y}, KEY)
    np.testing.assert_allclose(-rows * loss, evidence, atol=0.03)


class Normalised(nn.Module):
    """State, and nothing to be learned."""

    @nn.compact
    def __call__(self, x):
        loc = nn.BatchNorm(use_running_average=True, use_bias=False, use_scale=False)(x)
        return Independent(Normal(loc, jnp.ones_like(loc)), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bayes.GaussianPosterior(MODEL, X, "banded"),
            "must be one of diagonal, low_rank, layer, full; got 'banded'. 'layer' is the usual",
        ),
        (
            lambda: bayes.GaussianPosterior(MODEL, X, init_scale=0.0),
            "init_scale must be above 1e-05; got 0.0",
        ),
        (
            lambda: bayes.GaussianPosterior(MODEL, X, "low_rank", rank=0),
            "rank must be at least 1; got 0",
        ),
        (
            lambda: bayes.GaussianPosterior(Normalised(), X),
            r"Normalised has no params, only the collections \['batch_stats'\]",
        ),
        (lambda: elbo(num_data=0), r"num_data must be .*at least 1; got 0. Write num_data=len"),
        (lambda: elbo(num_samples=0), "num_samples must be at least 1; got 0"),
        (lambda: elbo(kl_weight=-0.1), "kl_weight must not be negative; got -0.1. Write 1.0"),
        (
            lambda: evaluate(BATCH | {"y": Y[:, 0]}),
            r'batch\["y"\] has shape \(6,\), but the model predicts shape \(6, 1\).* y\[:, None\]',
        ),
        (
            lambda: evaluate(BATCH | {"y": np.ones((6, 2))}),
            r"shape \(6, 2\), but the model predicts shape \(6, 1\).* head's features to 2",
        ),
        (
            lambda: evaluate(BATCH | {"y": Y[:5]}),
            r'shape \(5, 1\), but .*batch\["x"\] and batch\["y"\] must have the same number',
        ),
        (
            lambda: evaluate(BATCH | {"weight": np.ones((6, 1))}),
            r'batch\["weight"\] has shape \(6, 1\); expected one weight for each row, \(6,\)',
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_without_a_head(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for a user
    with pytest.raises(ValueError, match="expected a distribution. End the model with a head"):
        evaluate(BATCH, nn.Dense(1))


def elbo(num_data=6, **options):
    return bayes.negative_elbo(bayes.GaussianPosterior(MODEL, X), num_data, **options)


def evaluate(batch, model=MODEL):
    q = bayes.GaussianPosterior(model, X)
    shapes = jax.eval_shape(q.init, KEY)
    return jax.eval_shape(bayes.negative_elbo(q, 6), shapes, batch, KEY)
