"""What a batch may say about its targets: weights, missing ones, censored ones, exposure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import distributions as jd
from jaxprob import heads, objectives
from jaxprob.objectives.likelihood import log_likelihood_of_batch

RNG = np.random.default_rng(0)
B, D, KEY = 6, 2, jax.random.key(0)
LOC, SCALE, Y = RNG.normal(size=(B, D)), RNG.uniform(0.5, 2, (B, D)), RNG.normal(size=(B, D))
MASK = RNG.random((B, D)) < 0.6
CENSORED = RNG.integers(-1, 2, (B, D))


def normal(loc):
    return jd.Independent(jd.Normal(loc, SCALE), 1)


@pytest.mark.parametrize("hidden", [0.0, np.nan, np.inf, -1e300])
def test_what_is_masked_is_never_read(hidden):
    y = np.where(MASK, Y, hidden)

    def total(loc):
        return log_likelihood_of_batch(normal(loc), {"y": y, "mask": MASK}).sum()

    value, slope = jax.value_and_grad(total)(jnp.asarray(LOC))
    expected = np.where(MASK, stats.norm(LOC, SCALE).logpdf(Y), 0.0).sum()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slope, np.where(MASK, (Y - LOC) / SCALE**2, 0.0), rtol=1e-12)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Poisson", "NegativeBinomial", "Categorical"])
def test_masks_of_other_supports(name):
    ones = jnp.ones((B, D))
    distribution = {
        "Gamma": lambda: jd.Independent(jd.Gamma(2 * ones, ones), 1),
        "Beta": lambda: jd.Independent(jd.Beta(2 * ones, ones), 1),
        "Poisson": lambda: jd.Independent(jd.Poisson(2 * ones), 1),
        "NegativeBinomial": lambda: jd.Independent(jd.NegativeBinomial(2 * ones, ones), 1),
        "Categorical": lambda: jd.Categorical(logits=jnp.zeros((B, 3))),
    }[name]()
    y = np.asarray(distribution.sample(seed=jax.random.key(0)))
    mask = MASK if y.ndim == 2 else MASK[:, 0]
    hidden = np.where(mask, y, -7).astype(y.dtype)
    found = log_likelihood_of_batch(distribution, {"y": hidden, "mask": mask})
    each = distribution if y.ndim == 1 else distribution.distribution
    expected = np.where(mask, each.log_prob(y), 0.0)
    np.testing.assert_allclose(found, expected.sum(1) if y.ndim == 2 else expected, rtol=1e-6)


def test_censored_targets_are_probabilities():
    found = log_likelihood_of_batch(normal(jnp.asarray(LOC)), {"y": Y, "censored": CENSORED})
    oracle = stats.norm(LOC, SCALE)
    expected = np.select(
        [CENSORED == 0, CENSORED > 0], [oracle.logpdf(Y), oracle.logsf(Y)], oracle.logcdf(Y)
    ).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_ignoring_censoring_is_biased_and_the_censored_likelihood_is_not():
    """Exponential lifetimes cut at 1: the estimate of the rate with its standard error."""
    lifetime = RNG.exponential(2.0, 4000)
    y, censored = np.minimum(lifetime, 1.0), lifetime > 1.0

    def loss(log_rate, batch):
        rate = jnp.broadcast_to(jnp.exp(log_rate), (4000,))
        return -log_likelihood_of_batch(jd.Exponential(rate), batch).mean()

    @jax.jit
    def newton(batch):
        slope, curve = jax.grad(loss), jax.grad(jax.grad(loss))
        start = jnp.zeros(())
        return jax.lax.fori_loop(0, 20, lambda _, a: a - slope(a, batch) / curve(a, batch), start)

    right = float(jnp.exp(newton({"y": y, "censored": censored.astype(int)})))
    wrong = float(jnp.exp(newton({"y": y, "censored": np.zeros(4000, int)})))
    events = (~censored).sum()
    assert right == pytest.approx(events / y.sum(), rel=1e-8)  # the known estimator
    assert abs(right - 0.5) < 4 * 0.5 / np.sqrt(events)
    assert wrong > 1.2


def test_weights_and_inputs():
    head = heads.PoissonHead(features=1)
    x, exposure = RNG.normal(size=(B, 3)), RNG.uniform(1, 5, (B, 1))
    y, weight = RNG.integers(0, 5, (B, 1)), RNG.uniform(0, 2, B)
    params = head.init(jax.random.key(0), x)["params"]
    loss = objectives.negative_log_likelihood(head, inputs=("x", "exposure"))
    batch = {"x": x, "exposure": exposure, "y": y, "weight": weight}
    value, metrics = loss(params, batch, jax.random.key(0))
    rate = (
        np.exp(x @ np.asarray(params["out"]["kernel"]) + np.asarray(params["out"]["bias"]))
        * exposure
    )
    terms = -stats.poisson(rate).logpmf(y)[:, 0]
    np.testing.assert_allclose(value, np.sum(weight * terms) / weight.sum(), rtol=1e-6)
    assert float(metrics["nll"]) == float(value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"mask": MASK[:, 0]}, r'batch\["mask"\] has shape \(6,\); expected that of batch\["y"\]'),
        ({"censored": CENSORED[:2]}, r'batch\["censored"\] has shape \(2, 2\)'),
    ],
)
def test_wrong_shapes(extra, message):
    with pytest.raises(ValueError, match=message):
        log_likelihood_of_batch(normal(jnp.asarray(LOC)), {"y": Y, **extra})


def test_elements_of_a_vector_cannot_be_left_out():
    vector = jd.MultivariateNormal(LOC, jnp.broadcast_to(jnp.eye(D), (B, D, D)))
    with pytest.raises(ValueError, match="has dependent ones"):
        log_likelihood_of_batch(vector, {"y": Y, "mask": MASK})


def test_beta_nll_weighs_by_the_variance():
    head = heads.NormalHead(features=D)
    params = head.init(jax.random.key(0), LOC)["params"]
    params = jax.tree.map(lambda w: w.astype(float), params)
    batch = {"x": LOC, "y": Y}
    nll = objectives.negative_log_likelihood(head)
    plain = jax.grad(nll, has_aux=True)(params, batch, KEY)[0]
    zero = jax.grad(objectives.beta_nll(head, 0.0), has_aux=True)(params, batch, KEY)[0]
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(zero), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    # beta = 1: the gradient of the mean is that of half the squared error
    one = jax.grad(objectives.beta_nll(head, 1.0), has_aux=True)(params, batch, KEY)[0]

    def squared(params):
        return 0.5 * jnp.mean(jnp.sum((head.apply({"params": params}, LOC).mean() - Y) ** 2, 1))

    expected = jax.grad(squared)(params)
    np.testing.assert_allclose(one["out"]["bias"][:D], expected["out"]["bias"][:D], rtol=1e-12)


def test_pinball_loss_is_the_mean_over_levels():
    levels = (0.1, 0.5, 0.9)
    head = heads.QuantileHead(levels, features=D)
    params = head.init(jax.random.key(0), LOC)["params"]
    batch = {"x": LOC, "y": Y}
    value, metrics = objectives.pinball_loss(head)(params, batch, KEY)
    prediction = head.apply({"params": params}, LOC)
    expected = 2 * D * np.mean([
        objectives.likelihood.pinball(prediction.quantile(q), Y, q) for q in levels
    ])  # fmt: skip
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert set(metrics) == {"pinball", "nll"}
    with pytest.raises(ValueError, match=r"must end in heads.QuantileHead"):
        objectives.pinball_loss(heads.NormalHead(D))(
            heads.NormalHead(D).init(jax.random.key(0), LOC)["params"], batch, KEY
        )


@pytest.mark.parametrize("dependent", ["mixture", "normal"])
def test_masks_are_refused_where_elements_depend_on_each_other_within_an_axis(dependent):
    """Its marginals would be taken for its factors: another likelihood, in silence."""
    if dependent == "normal":
        inner = jd.MultivariateNormal(jnp.zeros((2, 4, 2)), jnp.tril(jnp.ones((2, 2))))
    else:
        parts = jd.Independent(jd.Normal(jnp.zeros((2, 4, 3, 2)), 1.0), 1)
        inner = jd.MixtureSameFamily(jd.Categorical(logits=jnp.zeros((2, 4, 3))), parts)
    batch = {"y": jnp.ones((2, 4, 2)), "mask": jnp.ones((2, 4, 2), bool)}
    with pytest.raises(ValueError, match="has dependent ones"):
        log_likelihood_of_batch(jd.Independent(inner, 1), batch)
