"""EM of two Poisson laws: SciPy's likelihood and optimum, and bounds that never fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

from jaxprob.objectives import em

X = np.random.default_rng(0).poisson(np.repeat([2.0, 9.0], [30, 20])).astype(float)


def log_joint(params):
    """log p(x, class) `[N, 2]`."""
    rate = jnp.exp(params["log_rate"])
    log_p = X[:, None] * params["log_rate"][None] - rate[None] - special.gammaln(X + 1.0)[:, None]
    return log_p + jax.nn.log_softmax(params["logits"])[None]


def moments(r):
    return {"counts": jnp.sum(r, 0), "sums": jnp.sum(r * X[:, None], 0)}


def exact(params):
    joint = log_joint(params)
    return moments(jax.nn.softmax(joint)), jnp.sum(jax.nn.logsumexp(joint, -1))


def hard(params):
    """A posterior that is sure of its class: the bound lacks the entropy."""
    joint = log_joint(params)
    r = jax.nn.one_hot(jnp.argmax(joint, -1), 2, dtype=joint.dtype)
    return moments(r), jnp.sum(r * joint)


def m_step(statistics, params):
    del params
    rate = statistics["sums"] / statistics["counts"]
    return {"logits": jnp.log(statistics["counts"]), "log_rate": jnp.log(rate)}


def start(*rates):
    rates = jnp.log(jnp.asarray(rates))
    return {"logits": jnp.zeros_like(rates), "log_rate": rates}


STARTS = start([1.0, 3.0], [5.0, 6.0], [np.nan, 1.0])


def log_likelihood(weight, rates):
    return np.sum(np.log(weight * stats.poisson.pmf(X, rates[0])
                         + (1 - weight) * stats.poisson.pmf(X, rates[1])))  # fmt: skip


@pytest.fixture(scope="module")
def fits():
    """To the end, until nothing is gained, and a sure posterior; in one program."""

    @jax.jit
    def run():
        return (
            em.fit_em(exact, m_step, STARTS, 300),
            em.fit_em(exact, m_step, start([1.0, 3.0]), 300, 1e-9),
            em.fit_em(hard, m_step, STARTS, 30),
            em.fit_em(exact, m_step, start([1.0, 3.0]), 300),
        )

    return run()


def test_it_ends_at_the_maximum_that_scipy_finds(fits):
    fit = fits[0]
    weight, rates = jax.nn.softmax(fit.params["logits"])[0], np.exp(fit.params["log_rate"])
    np.testing.assert_allclose(fit.bounds[-1], log_likelihood(weight, rates), rtol=1e-12)
    direct = optimize.minimize(
        lambda w: -log_likelihood(special.expit(w[0]), np.exp(w[1:])), [0.0, 0.5, 2.0], tol=1e-12
    )
    np.testing.assert_allclose(fit.bounds[-1], -direct.fun, rtol=1e-11)
    np.testing.assert_allclose(np.sort(rates), np.sort(np.exp(direct.x[1:])), rtol=1e-4)


def test_bounds_are_those_before_each_step_and_never_fall(fits):
    for fit in (fits[0], fits[2]):
        assert np.all(np.diff(fit.bounds) >= -1e-10)
        assert int(fit.num_steps) == len(fit.bounds)
    first = [log_likelihood(0.5, rates) for rates in ([1.0, 3.0], [5.0, 6.0])]
    assert min(abs(fits[0].bounds[0] - one) for one in first) < 1e-9


def test_it_stops_where_a_step_gains_too_little(fits):
    _, fit, _, whole = fits
    taken = int(fit.num_steps)
    assert 2 < taken < 300
    assert np.all(np.isnan(fit.bounds[taken:]))
    np.testing.assert_allclose(fit.bounds[:taken], whole.bounds[:taken], rtol=1e-12)
    gains = np.diff(fit.bounds[:taken])
    assert gains[-1] <= 1e-9 * abs(fit.bounds[taken - 1])
    assert np.all(gains[:-1] > 1e-9 * np.abs(fit.bounds[1 : taken - 1]))


def test_a_bound_is_below_the_likelihood(fits):
    fit = fits[2]
    weight, rates = jax.nn.softmax(fit.params["logits"])[0], np.exp(fit.params["log_rate"])
    assert fit.bounds[-1] < log_likelihood(weight, rates)
    assert fit.bounds[-1] > fits[0].bounds[-1] - 30.0


def test_a_start_that_is_lost_is_not_the_best(fits):
    lost = jax.jit(lambda: em.fit_em(exact, m_step, start([np.nan, 1.0], [1.0, 3.0]), 3))()
    assert np.all(np.isfinite(lost.bounds))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(fits[0].params))


def test_refuses():
    with pytest.raises(ValueError, match="num_steps must be at least 1; got 0"):
        em.fit_em(exact, m_step, STARTS, 0)
    with pytest.raises(ValueError, match="tolerance must not be negative; got -1.0"):
        em.fit_em(exact, m_step, STARTS, 3, -1.0)
    with pytest.raises(ValueError, match="starts must be arrays with one leading axis"):
        em.fit_em(exact, m_step, {"logits": jnp.zeros(()), "log_rate": jnp.zeros(())}, 3)
    with pytest.raises(ValueError, match="starts must be arrays with one leading axis"):
        em.fit_em(exact, m_step, {"logits": jnp.zeros((0, 2)), "log_rate": jnp.zeros((0, 2))}, 3)
