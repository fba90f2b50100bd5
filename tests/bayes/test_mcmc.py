"""HMC and NUTS against posteriors that are known exactly, and what they say when misused."""

import functools
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob import bayes
from jaxprob import distributions as jd
from jaxprob.objectives import GaussianPrior

RNG = np.random.default_rng(4)
N, D, NOISE, PRIOR = 30, 3, 0.4, 1.5
X = RNG.normal(size=(N, D)) @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]])
Y = X @ np.array([0.7, -1.1, 0.4]) + NOISE * RNG.normal(size=N)
COVARIANCE = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(D) / PRIOR**2)
MEAN = COVARIANCE @ X.T @ Y / NOISE**2


class Line(nn.Module):
    """y ~ N(x w, NOISE^2)."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(1.0), (x.shape[-1],))
        return jd.Normal(jnp.asarray(x) @ w, NOISE)


def posterior():
    return bayes.log_joint(Line(), GaussianPrior(PRIOR), {"x": X, "y": Y})


def starts(count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.vmap(lambda k: Line().init(k, X)["params"])(keys)


def test_log_joint_is_likelihood_and_prior():
    w = RNG.normal(size=D)
    weight = RNG.integers(0, 3, N)
    expected = scipy.stats.norm.logpdf(w, 0, PRIOR).sum()
    terms = scipy.stats.norm.logpdf(Y, X @ w, NOISE)
    np.testing.assert_allclose(posterior()({"w": w}), expected + terms.sum(), rtol=1e-13)
    weighted = bayes.log_joint(Line(), GaussianPrior(PRIOR), {"x": X, "y": Y, "weight": weight})
    np.testing.assert_allclose(weighted({"w": w}), expected + weight @ terms, rtol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(lambda p: bayes.NUTS(p, num_warmup=400), id="NUTS"),
        pytest.param(lambda p: bayes.HMC(p, num_warmup=400, num_steps=3), id="HMC"),
    ],
)  # fmt: skip
def test_draws_are_those_of_the_exact_posterior(sampler):
    traces = []
    log_density = posterior()

    def counted(params):
        traces.append(1)
        return log_density(params)

    algorithm = sampler(counted)
    chains = algorithm.run(jax.random.key(1), starts(4), num_draws=800)
    once = len(traces)
    again = algorithm.run(jax.random.key(1), starts(4), num_draws=800)
    assert len(traces) <= once + 1, "a second run is compiled again"
    np.testing.assert_array_equal(chains.draws["w"], again.draws["w"])
    assert not np.array_equal(chains.by_chain["w"][0], chains.by_chain["w"][1])
    draws = np.asarray(chains.draws["w"])
    assert draws.shape == (3200, D)
    assert chains.by_chain["w"].shape == (4, 800, D)
    row = chains.summary()["w"]
    assert (row["rhat"] < 1.01).all()
    sd, effective = np.sqrt(np.diag(COVARIANCE)), row["ess_bulk"]
    assert (np.abs(draws.mean(0) - MEAN) < 0.01 * sd + 4 * sd / np.sqrt(effective)).all()
    whitened = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (draws - MEAN).T)
    # the standard error of a variance is its value times sqrt(2 / effective number)
    error = np.abs(np.cov(whitened) - np.eye(D)).max()
    assert error < 0.02 + 4 * np.sqrt(2 / effective.min())
    predictive = bayes.predict(Line(), chains.draws, X)
    np.testing.assert_allclose(predictive.mean(), X @ MEAN, atol=0.05)
    np.testing.assert_allclose(
        chains.log_density[0, 0], posterior()({"w": chains.by_chain["w"][0, 0]}), rtol=1e-12
    )


@pytest.mark.slow
def test_eight_schools():
    """Rubin (1981), non-centred; means and sd of the reference posterior of posteriordb."""
    y = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12])
    sigma = jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])

    def log_density(p):
        tau = jnp.exp(p["log_tau"])
        effects = p["mu"] + tau * p["raw"]
        half_cauchy = jd.Cauchy(0.0, 5.0).log_prob(tau) + p["log_tau"]
        prior = jd.Normal(0.0, 5.0).log_prob(p["mu"]) + half_cauchy
        return (
            prior
            + jnp.sum(jd.Normal(0.0, 1.0).log_prob(p["raw"]))
            + jnp.sum(jd.Normal(effects, sigma).log_prob(y))
        )

    def start(key):
        mu, log_tau, raw = jax.random.split(key, 3)
        return {"mu": jax.random.normal(mu), "log_tau": jax.random.normal(log_tau),
                "raw": jax.random.normal(raw, (8,))}  # fmt: skip

    init = jax.vmap(start)(jax.random.split(jax.random.key(0), 4))
    chains = bayes.NUTS(log_density, target_acceptance=0.95).run(jax.random.key(1), init, 4000)
    assert max(np.max(row["rhat"]) for row in chains.summary().values()) < 1.01
    draws = chains.draws
    tau = np.exp(np.asarray(draws["log_tau"]))
    first = np.asarray(draws["mu"]) + tau * np.asarray(draws["raw"][:, 0])
    for found, mean, sd in (
        (draws["mu"], 4.4105, 3.3091),
        (tau, 3.6021, 3.1983),
        (first, 6.1505, 5.6156),
    ):
        assert abs(np.mean(found) - mean) < 0.1 * sd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "dtype"), [(bayes.HMC, jnp.bfloat16), (bayes.NUTS, jnp.float32)]
)
def test_starts_in_short_floats_draw_as_double_ones_do(sampler, dtype):
    def log_density(params):
        return -0.5 * jnp.sum((params["m"] - 1.0) ** 2)

    run = functools.partial(sampler(log_density, num_warmup=200).run, jax.random.key(0))
    start = jnp.array([[0.5], [1.5]])
    short = run({"m": start.astype(dtype)}, num_draws=5).by_chain["m"]
    assert short.dtype == dtype
    np.testing.assert_array_equal(short, run({"m": start}, num_draws=5).by_chain["m"].astype(dtype))


def test_a_diverging_sampler_warns():
    def funnel(w):
        return -0.5 * (w[0] / 3) ** 2 - 0.5 * (w[1] * jnp.exp(-w[0] / 2)) ** 2 - w[0] / 2

    init = jnp.array([[-6.0, 1.0], [2.0, 1.0]])
    with pytest.warns(UserWarning, match="draws diverged"):
        bayes.NUTS(funnel, num_warmup=50, target_acceptance=0.5).run(jax.random.key(0), init, 300)


def test_bad_input():
    nuts = bayes.NUTS(posterior())
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="num_draws must be at least 1; got 0"):
        nuts.run(key, starts(2), 0)
    with pytest.raises(ValueError, match="num_warmup must be at least 1; got 0"):
        bayes.NUTS(posterior(), num_warmup=0).run(key, starts(2))
    with pytest.raises(ValueError, match=r"target_acceptance must lie in \(0, 1\); got 80.0"):
        bayes.NUTS(posterior(), target_acceptance=80.0).run(key, starts(2))
    with pytest.raises(ValueError, match=r"jitter must lie in \[0, 1\); got 2.0"):
        bayes.HMC(posterior(), jitter=2.0).run(key, starts(2))
    with pytest.raises(ValueError, match="needs the same leading axis C"):
        nuts.run(key, {"w": jnp.zeros((2, D)), "b": jnp.zeros(())})
    with pytest.raises(ValueError, match="log-density is nan at the start of chain 1"):
        nuts.run(key, {"w": jnp.zeros((2, D)).at[1].set(jnp.nan)})
    with pytest.raises(ValueError, match="parts that are learned"):
        bayes.log_joint(Line(), GaussianPrior(1.0, trainable=("scale",)), {"x": X, "y": Y})


def test_without_blackjax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxprob\[mcmc\]'"):
        bayes.NUTS(posterior()).run(jax.random.key(0), starts(1))
