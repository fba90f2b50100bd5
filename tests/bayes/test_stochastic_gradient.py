"""SGLD and SGHMC against the stationary laws of their own discrete steps, and exact posteriors."""

import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxprob import bayes
from jaxprob import distributions as jd
from jaxprob.objectives import GaussianPrior

KEY = jax.random.key(0)
RNG = np.random.default_rng(4)
N, D, NOISE, PRIOR = 30, 3, 0.4, 1.5
X = RNG.normal(size=(N, D)) @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.7]])
Y = X @ np.array([0.7, -1.1, 0.4]) + NOISE * RNG.normal(size=N)
DATA = {"x": X, "y": Y}
COVARIANCE = np.linalg.inv(X.T @ X / NOISE**2 + np.eye(D) / PRIOR**2)
MEAN = COVARIANCE @ X.T @ Y / NOISE**2


class Line(nn.Module):
    """y ~ N(x w, NOISE^2)."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(1.0), (x.shape[-1],))
        return jd.Normal(jnp.asarray(x) @ w, NOISE)


POSTERIOR = bayes.minibatch_log_joint(Line(), GaussianPrior(PRIOR), N)
SCALES = np.array([0.5, 1.0, 2.0])


def gaussian(w, batch):
    """N(1, SCALES^2), without data."""
    return -0.5 * jnp.sum(((w - 1.0) / SCALES) ** 2)


def slope_one(w, batch):
    """A gradient of 1 everywhere, so that positions count steps."""
    return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(w))


def check_moments(draws, mean, covariance, effective):
    """Whitened mean and covariance within 4.5 standard errors of their estimates."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, (np.asarray(draws).reshape(-1, len(mean)) - mean).T)
    assert np.abs(white.mean(1)).max() < 4.5 / np.sqrt(effective)
    assert np.abs(np.cov(white) - np.eye(len(mean))).max() < 4.5 * np.sqrt(2 / effective)


@pytest.mark.parametrize("temperature", [1.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_full_batch_sgld_settles_at_the_law_of_its_steps(temperature):
    """Not at that of the diffusion: the narrowest direction is 5 times too wide here."""
    epsilon = 0.8
    variance = temperature * SCALES**2 / (1 - epsilon / (4 * SCALES**2))
    assert variance[0] / temperature == pytest.approx(5 * SCALES[0] ** 2)
    sampler = bayes.SGLD(gaussian, epsilon, temperature)
    # 800 chains from the stationary law, whose slowest correlation is (1 - .1)^100
    start = 1 + RNG.normal(size=(800, 3)) * np.sqrt(variance)
    chains = sampler.run(KEY, start, {}, 1000, num_warmup=100, thin=100)
    assert chains.by_chain.shape == (800, 9, 3)
    check_moments(chains.draws, np.ones(3), np.diag(variance), 7200)


@pytest.mark.parametrize("noise", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
def test_full_batch_sghmc_settles_at_the_law_of_its_steps(noise):
    """The covariance P of (w, v) solves P = A P A' + Q, from SciPy."""
    epsilon, friction = 0.3, 0.4
    sampler = bayes.SGHMC(gaussian, epsilon, friction=friction, gradient_noise=noise)
    variance = []
    for scale in SCALES:
        pull = epsilon / scale**2
        a = np.array([[1 - pull, 1 - friction], [-pull, 1 - friction]])
        q = 2 * (friction - noise) * epsilon * np.ones((2, 2))
        variance.append(scipy.linalg.solve_discrete_lyapunov(a, q)[0, 0])
    assert abs(variance[0] / SCALES[0] ** 2 - 1) > 0.1
    start = 1 + RNG.normal(size=(800, 3)) * np.sqrt(variance)
    chains = sampler.run(KEY, start, {}, 1500, num_warmup=100, thin=100)
    check_moments(chains.draws, np.ones(3), np.diag(variance), 800 * 14)


NOISES = RNG.normal(size=600)
NOISES = np.sqrt(3.2) * (NOISES - NOISES.mean()) / NOISES.std()
VARIANCE = 0.8  # of the gradient, from batches of 4 rows


def noisy_gaussian(w, batch):
    """N(0, 1), its gradient with the mean of a batch of NOISES added."""
    return -0.5 * jnp.sum(w**2) + jnp.sum(w) * jnp.mean(batch["z"])


def law(sampler, steps=None):
    """Variance of the position: stationary, or after so many steps from N(0, T)."""
    schedule = sampler.step_size if steps else lambda _: sampler.step_size
    covariance = np.diag([sampler.temperature, 0.0])
    for t in range(steps or 4000):
        epsilon = float(schedule(jnp.asarray(t)))
        if isinstance(sampler, bayes.SGLD):
            # half a step of the gradient, whose noise nobody takes away
            a, noise = np.diag([1 - epsilon / 2, 0.0]), np.diag([1.0, 0.0])
            noise = noise * (epsilon * sampler.temperature + epsilon**2 / 4 * VARIANCE)
        else:
            kept = 1 - sampler.friction
            a = np.array([[1 - epsilon, kept], [-epsilon, kept]])
            noise = 2 * sampler.friction * epsilon * sampler.temperature * np.ones((2, 2))
        covariance = a @ covariance @ a.T + noise
    return covariance[0, 0]


@pytest.mark.parametrize(
    ("kind", "temperature"),
    [
        ("SGHMC", 0.5),
        ("SGHMC", 2.0),
        ("SGLD", 0.1),
        *[pytest.param("SGHMC", t, marks=pytest.mark.slow) for t in (0.1, 1.0)],
        *[pytest.param("SGLD", t, marks=pytest.mark.slow) for t in (0.5, 1.0, 2.0)],
    ],
)
def test_noisy_gradients_settle_at_the_temperature(kind, temperature):
    """The noise of the batches is declared to SGHMC, whose law is then that without it."""
    options = {"friction": 0.3, "gradient_noise": 0.05 * VARIANCE / 2} if kind == "SGHMC" else {}
    sampler = getattr(bayes, kind)(noisy_gaussian, 0.05, temperature, **options)
    expected = law(sampler)
    brought = 0.05 * VARIANCE / 4 if kind == "SGLD" else 0.0
    assert abs(expected / (temperature + brought) - 1) < 0.02
    start = RNG.normal(size=(4000, 1)) * np.sqrt(expected)
    chains = sampler.run(KEY, start, {"z": NOISES}, 240, 4, num_warmup=140, thin=50, rows="random")
    found = np.asarray(chains.draws)
    # two draws of a chain have at most .08 (SGLD) of their squares in common
    assert abs(found.var() / expected - 1) < 4.5 * np.sqrt(2 / (4000 * 1.8))


def test_declared_noise_follows_a_falling_step_size():
    """Half the step size times the variance of the gradient, at each step; exact after 60."""
    schedule = bayes.PolynomialStepSize(0.2, 1.0, 0.6)
    noise = float(schedule(jnp.asarray(0))) * VARIANCE / 2
    sampler = bayes.SGHMC(noisy_gaussian, schedule, 0.3, friction=0.3, gradient_noise=noise)
    start = RNG.normal(size=(12_000, 1)) * np.sqrt(0.3)
    chains = sampler.run(KEY, start, {"z": NOISES}, 60, 4, num_warmup=59, rows="random")
    expected = law(sampler, 60)
    assert abs(np.asarray(chains.draws).var() / expected - 1) < 4.5 * np.sqrt(2 / 12_000)


@pytest.mark.parametrize(
    ("sampler", "rows", "num_steps", "bias"),
    [
        pytest.param(bayes.SGLD(POSTERIOR, 2e-4), "shuffled", 8000, 0.03, id="SGLD shuffled"),
        pytest.param(bayes.SGLD(POSTERIOR, 1e-4), "random", 40_000, 0.02, id="SGLD"),
        pytest.param(bayes.SGHMC(POSTERIOR, 1e-5), "random", 30_000, 0.02, id="SGHMC"),
    ],
)
@pytest.mark.slow
def test_minibatches_give_the_exact_posterior(sampler, rows, num_steps, bias):
    """Bayesian linear regression; `bias` bounds epsilon / 4 times (precision + gradient noise)."""
    start = {"w": MEAN + RNG.normal(size=(24, D)) @ np.linalg.cholesky(COVARIANCE).T}
    chains = sampler.run(KEY, start, DATA, num_steps, 10, num_warmup=500, thin=25, rows=rows)
    draws, effective = np.asarray(chains.draws["w"]), chains.ess_bulk()["w"]
    assert (effective > 400).all()
    sd = np.sqrt(np.diag(COVARIANCE))
    assert (np.abs(draws.mean(0) - MEAN) / sd < 0.01 + 4 / np.sqrt(effective)).all()
    factor = np.linalg.cholesky(COVARIANCE)
    white = np.linalg.solve(factor, (draws - MEAN).T)
    bound = bias + 4 * np.sqrt(2 / effective.min())
    assert np.abs(np.cov(white) - np.eye(D)).max() < bound
    predictive = bayes.predict(Line(), chains.draws, X[:4])
    np.testing.assert_allclose(predictive.mean(), X[:4] @ MEAN, atol=0.05)


def two_modes(w, batch):
    """0.5 N(-3, 0.5^2) + 0.5 N(3, 0.5^2)."""
    return jax.nn.logsumexp(-0.5 * ((w[..., None] - jnp.array([-3.0, 3.0])) / 0.5) ** 2)


def test_cycles_visit_both_modes():
    start = jnp.full((4,), -3.0)
    constant = bayes.SGLD(two_modes, 0.02).run(KEY, start, {}, 4000).draws
    assert (constant < 0).all()
    cycles = bayes.CyclicalStepSize(1.1, 80, exploration=0.7)
    chains = bayes.SGLD(two_modes, cycles).run(KEY, start, {}, 8000)
    assert chains.by_chain.shape == (4, 100 * 24)
    right = np.asarray(chains.by_chain > 0).mean(axis=1)
    assert ((right > 0.2) & (right < 0.8)).all()
    # and samples each as it is: at the ends of the cycles the step size is small
    late = np.abs(np.asarray(chains.by_chain).reshape(4, 100, 24)[:, :, -1])
    assert abs(late.mean() - 3) < 0.2
    assert 0.3 < late.std() < 0.6
    assert (chains.step_size <= 1.1 / 2 * (1 + np.cos(0.7 * np.pi))).all()


def test_steps_and_kept_draws_by_hand():
    """Gradient 1 and temperature 0: w after step t is the sum of half the step sizes."""
    start = jnp.zeros((2, 1))
    schedule = bayes.PolynomialStepSize(0.5, 2.0, 0.6)
    chains = bayes.SGLD(slope_one, schedule, 0.0).run(KEY, start, {}, 11, num_warmup=3, thin=3)
    sizes = 0.5 * (2.0 + np.arange(11)) ** -0.6
    kept = np.array([5, 8])
    np.testing.assert_allclose(chains.by_chain[1, :, 0], np.cumsum(sizes / 2)[kept], rtol=1e-13)
    np.testing.assert_allclose(chains.step_size, np.stack([sizes[kept]] * 2), rtol=1e-13)
    cycles = bayes.CyclicalStepSize(0.5, 5, exploration=0.5)
    chains = bayes.SGLD(slope_one, cycles, 0.0).run(KEY, start, {}, 10)
    sizes = 0.25 * (1 + np.cos(np.pi * (np.arange(10) % 5) / 5))
    kept = np.array([3, 4, 8, 9])  # r = .6 and .8
    np.testing.assert_allclose(chains.by_chain[0, :, 0], np.cumsum(sizes / 2)[kept], rtol=1e-13)
    chains = bayes.SGHMC(slope_one, 0.2, 0.0, friction=0.25).run(KEY, start, {}, 4)
    v = [0.2]
    for _ in range(3):
        v.append(0.75 * v[-1] + 0.2)
    np.testing.assert_allclose(chains.by_chain[0, :, 0], np.cumsum(v), rtol=1e-13)


def test_exploration_has_no_noise():
    """At temperature 1 all chains are equal until the first cycle samples."""
    cycles = bayes.CyclicalStepSize(0.1, 10, exploration=0.6)
    chains = bayes.SGLD(gaussian, cycles).run(KEY, jnp.zeros((3, 3)), {}, 10)
    w = np.zeros(3)
    for t in range(6):
        w = w + 0.05 / 2 * (1 + np.cos(np.pi * t / 10)) * (1 - w) / SCALES**2
    first = 0.1 / 2 * (1 + np.cos(np.pi * 0.6))
    noise = (np.asarray(chains.by_chain[:, 0]) - w - first / 2 * (1 - w) / SCALES**2) / first**0.5
    assert (np.abs(noise) > 1e-3).all()
    assert (np.abs(noise) < 5).all()
    assert len(np.unique(noise)) == 9


def test_an_epoch_sees_every_row_once():
    """The gradient is the sum of one-hot rows, so the weights count how often each was seen."""

    def counts(w, batch):
        return jnp.sum(w * jnp.sum(batch["x"], axis=0))

    sampler, data = bayes.SGLD(counts, 2.0, 0.0), {"x": np.eye(7)}
    start = jnp.zeros((2, 7))
    seen = np.asarray(sampler.run(KEY, start, data, 9, 2).by_chain)  # 3 batches, one row left out
    steps = np.diff(seen, axis=1, prepend=0.0)
    assert (steps.sum(-1) == 2).all()
    assert (steps.max(-1) == 1).all()
    for epoch in range(3):
        once = steps[:, 3 * epoch : 3 * epoch + 3].sum(1)
        assert (np.sort(once, axis=1) == [0, 1, 1, 1, 1, 1, 1]).all()
    assert (seen[0] != seen[1]).any()
    drawn = np.asarray(sampler.run(KEY, start, data, 400, 2, rows="random").by_chain)[:, -1]
    assert (drawn.sum(-1) == 800).all()
    assert (np.abs(drawn - 800 / 7) < 4.5 * np.sqrt(800 / 7)).all()
    whole = sampler.run(KEY, start, data, 3).by_chain
    np.testing.assert_array_equal(whole[0, -1], 3 * np.ones(7))


def test_minibatch_log_joint_is_unbiased():
    w, weight = {"w": RNG.normal(size=D)}, RNG.integers(0, 3, N)
    data = {**DATA, "weight": weight}
    whole = bayes.log_joint(Line(), GaussianPrior(PRIOR), data)(w)
    np.testing.assert_allclose(POSTERIOR(w, data), whole, rtol=1e-13)
    parts = [{n: v[i : i + 6] for n, v in data.items()} for i in range(0, N, 6)]
    np.testing.assert_allclose(np.mean([POSTERIOR(w, p) for p in parts]), whole, rtol=1e-13)


def test_one_trace_and_the_same_draws_again():
    traces = []

    def counted(w, batch):
        traces.append(1)
        return gaussian(w, batch)

    cycles = bayes.CyclicalStepSize(0.1, 4, 0.5)
    sampler, start = bayes.SGLD(counted, cycles), jnp.zeros((2, 3), jnp.float32)
    first = sampler.run(KEY, start, {}, 24)
    once = len(traces)
    again = sampler.run(KEY, start, {}, 24)
    assert len(traces) == once
    np.testing.assert_array_equal(first.draws, again.draws)
    assert first.draws.dtype == jnp.float32
    other = sampler.run(jax.random.key(1), start, {}, 24)
    assert len(traces) == once
    assert not np.array_equal(first.draws, other.draws)


def test_to_arviz_leaves_out_what_is_not_known(monkeypatch):
    arviz = types.ModuleType("arviz")
    arviz.from_dict = lambda groups: groups
    monkeypatch.setitem(sys.modules, "arviz", arviz)
    chains = bayes.SGLD(slope_one, 0.1).run(KEY, {"w": jnp.zeros((2, 3))}, {}, 8)
    assert chains.log_density is None
    groups = chains.to_arviz()
    assert set(groups) == {"posterior"}
    np.testing.assert_array_equal(groups["posterior"]["w"], chains.by_chain["w"])


def test_a_chain_that_runs_away_is_named():
    start = jnp.array([[0.1], [0.0]])
    sampler = bayes.SGLD(lambda w, batch: jnp.sum(w**4), 1.0, 0.0)
    with pytest.warns(UserWarning, match=r"chains \[0\] of 2 are not finite, the first from draw"):
        chains = sampler.run(KEY, start, {}, 60)
    assert np.isfinite(chains.by_chain[1]).all()


def test_bad_input():
    sampler, start = bayes.SGLD(POSTERIOR, 1e-4), {"w": jnp.zeros((2, D))}
    with pytest.raises(ValueError, match="step_size must be positive and finite; got 0.0"):
        bayes.SGLD(POSTERIOR, 0.0)
    with pytest.raises(ValueError, match="temperature must not be negative; got -1.0"):
        bayes.SGHMC(POSTERIOR, 0.1, -1.0)
    with pytest.raises(ValueError, match=r"friction must lie in \(0, 1\]; got 0.0"):
        bayes.SGHMC(POSTERIOR, 0.1, friction=0.0)
    with pytest.raises(ValueError, match=r"\(0, friction \* temperature\) = \(0, 0.1\); got"):
        bayes.SGHMC(POSTERIOR, 0.1, friction=0.1, gradient_noise=0.1)
    with pytest.raises(ValueError, match=r"temperature\) = \(0, 0.02\); got 0.05"):
        bayes.SGHMC(POSTERIOR, 0.1, 0.2, friction=0.1, gradient_noise=0.05)
    with pytest.raises(ValueError, match=r"gamma must lie in \(0.5, 1\]; got 0.3"):
        bayes.PolynomialStepSize(1.0, gamma=0.3)
    with pytest.raises(ValueError, match=r"exploration must lie in \[0, 1\); got 1.0"):
        bayes.CyclicalStepSize(1.0, 10, 1.0)
    with pytest.raises(ValueError, match="cycle_length must be at least 1; got 0"):
        bayes.CyclicalStepSize(1.0, 0)
    with pytest.raises(ValueError, match="num_steps must be at least 1; got 0"):
        sampler.run(KEY, start, DATA, 0)
    with pytest.raises(ValueError, match="rows must be one of shuffled, random; got 'all'"):
        sampler.run(KEY, start, DATA, 5, rows="all")
    with pytest.raises(ValueError, match="batch_size must be at most the number of rows, 30; got"):
        sampler.run(KEY, start, DATA, 5, 31)
    with pytest.raises(ValueError, match="5 steps with num_warmup=5, .* keep no draw"):
        sampler.run(KEY, start, DATA, 5, num_warmup=5)
    with pytest.raises(ValueError, match="needs the same leading axis C of chains"):
        sampler.run(KEY, {"w": jnp.zeros((2, D)), "b": jnp.zeros(())}, DATA, 5)
    with pytest.raises(ValueError, match="init must be finite"):
        sampler.run(KEY, {"w": jnp.full((2, D), np.nan)}, DATA, 5)
    with pytest.raises(ValueError, match="needs the same number of rows"):
        sampler.run(KEY, start, {"x": X, "y": Y[:5]}, 5)
    with pytest.raises(ValueError, match="parts that are learned"):
        bayes.minibatch_log_joint(Line(), GaussianPrior(1.0, trainable=("scale",)), N)
    with pytest.raises(ValueError, match="num_data must be at least 1; got 0"):
        bayes.minibatch_log_joint(Line(), GaussianPrior(1.0), 0)
