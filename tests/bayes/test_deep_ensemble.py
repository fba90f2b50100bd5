"""Deep ensembles: the adversarial loss by hand, members as one program, members as draws."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxprob import bayes, heads, training
from jaxprob import distributions as jd
from jaxprob.objectives import GaussianPrior

RNG = np.random.default_rng(0)
N, D, NOISE = 20, 3, 0.5
X = RNG.normal(size=(N, D))
Y = X @ np.array([1.0, -2.0, 0.3]) + NOISE * RNG.normal(size=N)
DATA = {"x": X, "y": Y}
KEY = jax.random.key(0)


class Line(nn.Module):
    """y ~ N(x w, NOISE^2)."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.normal(1.0), (x.shape[-1],))
        return jd.Normal(jnp.asarray(x) @ w, NOISE)


ENSEMBLE = bayes.DeepEnsemble(Line(), X[:1], 4)


def by_hand(w, x):
    return -scipy.stats.norm.logpdf(Y, x @ w, NOISE).mean()


def moved(w, epsilon, reach):
    """The loss falls with (y - x w)^2, so its slope in x has the sign of -(y - x w) w."""
    return X + epsilon * reach * np.sign(-(Y - X @ w)[:, None] * w)


@pytest.mark.parametrize("reach", [1.5, np.array([0.5, 2.0, 1.0])], ids=["number", "per feature"])
def test_adversarial_loss_is_the_average_of_clean_and_moved(reach):
    w = RNG.normal(size=D)
    prior = GaussianPrior(0.7)
    loss_fn = ENSEMBLE.loss(0.05, reach, prior, num_data=N)
    (loss, metrics), slope = jax.value_and_grad(loss_fn, has_aux=True)({"w": w}, DATA, KEY)
    away = moved(w, 0.05, reach)
    log_prior = scipy.stats.norm.logpdf(w, 0, 0.7).sum()
    expected = 0.5 * (by_hand(w, X) + by_hand(w, away)) - log_prior / N
    np.testing.assert_allclose(loss, expected, rtol=1e-13)
    np.testing.assert_allclose(metrics["nll"], by_hand(w, X), rtol=1e-13)
    np.testing.assert_allclose(metrics["adversarial_nll"], by_hand(w, away), rtol=1e-13)
    assert metrics["adversarial_nll"] > metrics["nll"]
    # the moved inputs are constants to the weights
    of_mean = 0.5 * sum(-x.T @ (Y - x @ w) / NOISE**2 / N for x in (X, away)) + w / 0.7**2 / N
    np.testing.assert_allclose(slope["w"], of_mean, rtol=1e-12)


def test_without_a_step_adversarial_training_is_none():
    w = {"w": RNG.normal(size=D)}
    plain, metrics = ENSEMBLE.loss()(w, DATA, KEY)
    np.testing.assert_allclose(ENSEMBLE.loss(0.0)(w, DATA, KEY)[0], plain, rtol=1e-15)
    np.testing.assert_allclose(plain, by_hand(w["w"], X), rtol=1e-13)
    assert set(metrics) == {"nll"}


def test_a_step_uphill_raises_the_loss_of_every_row():
    """What the sign is for: each row's own loss rises, not only their mean."""
    w = RNG.normal(size=D)
    rows = scipy.stats.norm.logpdf(Y, moved(w, 0.01, 1.0) @ w, NOISE)
    assert (rows < scipy.stats.norm.logpdf(Y, X @ w, NOISE)).all()


@pytest.mark.slow
def test_trained_members_predict_together():
    ensemble = bayes.DeepEnsemble(Line(), X[:1], 3)
    members = ensemble.init(KEY)
    assert members["w"].shape == (3, D)
    assert len(np.unique(members["w"])) == 3 * D
    fitted = training.fit_ensemble(
        ensemble.loss(0.01, np.ptp(X, axis=0)),
        members,
        DATA,
        optimizer=optax.adam(0.05),
        epochs=40,
        batch_size=N,
        key=KEY,
        progress=False,
    )
    assert (fitted.history["nll"][-1] < fitted.history["nll"][0]).all()
    assert (fitted.history["adversarial_nll"] > fitted.history["nll"]).all()
    predictive = bayes.predict(Line(), ensemble.sample(fitted.params), X)
    alone = X @ np.asarray(fitted.params["w"], float).T
    np.testing.assert_allclose(predictive.mean(), alone.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(predictive.epistemic, alone.var(axis=1), rtol=1e-5)


def test_draws_are_members():
    members = {"w": jnp.arange(4.0)[:, None] * jnp.ones((1, D))}
    np.testing.assert_array_equal(ENSEMBLE.sample(members)["w"], members["w"])
    draws = ENSEMBLE.sample(members, jax.random.key(3), 4000)["w"]
    assert draws.shape == (4000, D)
    counts = np.bincount(np.asarray(draws[:, 0]).astype(int), minlength=4)
    assert counts.sum() == 4000
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_collections_go_beside_the_params():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True)(nn.Dense(2)(x))
            return heads.NormalHead(1)(x)

    ensemble = bayes.DeepEnsemble(Normed(), X[:1], 2)
    members = jax.jit(ensemble.init)(KEY)
    assert set(members) == {"params", "collections"}
    draws = ensemble.sample(members)
    assert set(draws) == {"params", "batch_stats"}
    first = jax.tree.map(lambda leaf: leaf[0], draws)
    assert Normed().apply(first, X).mean().shape == (N, 1)


def test_bad_input():
    with pytest.raises(ValueError, match="num_members must be at least 1; got 0"):
        bayes.DeepEnsemble(Line(), X[:1], 0)
    with pytest.raises(ValueError, match="adversarial must not be negative; got -0.1"):
        ENSEMBLE.loss(-0.1)
    with pytest.raises(ValueError, match="input_range must be finite and not negative; got nan"):
        ENSEMBLE.loss(0.1, np.nan)
    with pytest.raises(ValueError, match="num_data must be the number of rows"):
        ENSEMBLE.loss(prior=GaussianPrior(1.0))
    w = {"w": np.zeros(D)}
    with pytest.raises(ValueError, match=r"input_range has shape \(2,\).*\(3,\)"):
        ENSEMBLE.loss(0.1, np.ones(2))(w, DATA, KEY)
    with pytest.raises(ValueError, match="needs a gradient .* dtype is int"):
        ENSEMBLE.loss(0.1)(w, {"x": np.ones((N, D), int), "y": Y}, KEY)
    with pytest.raises(ValueError, match="leading axis M = 4; got leading sizes"):
        ENSEMBLE.sample({"w": np.zeros((3, D))})
    with pytest.raises(ValueError, match="needs a key; got num_draws=2, key=None"):
        ENSEMBLE.sample({"w": np.zeros((4, D))}, None, 2)
