"""What every distribution offers beside its density."""

import re

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import distributions as jd
from jaxprob.distributions import Independent, Normal, Predictive
from tests.contracts.cases import RETURNED, B, D, S, mixture, normal, predictive

NAMES = list(RETURNED)


@pytest.mark.parametrize("name", NAMES)
def test_intervals_hold_their_probability(name):
    distribution = RETURNED[name](0.3)
    lower, upper = distribution.interval(0.8)
    marginal = distribution.marginal()
    assert lower.shape == distribution.batch_shape + distribution.event_shape
    np.testing.assert_allclose(marginal.cdf(upper) - marginal.cdf(lower), 0.8, rtol=1e-9)
    np.testing.assert_allclose(marginal.survival_function(upper), 0.1, rtol=1e-9)
    np.testing.assert_allclose(distribution.prob_above(upper), 0.1, rtol=1e-9)
    np.testing.assert_allclose(distribution.median(), distribution.quantile(0.5), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_the_moments(name):
    distribution = RETURNED[name](0.3)
    draws = distribution.sample(seed=jax.random.key(0), sample_shape=(20_000,))
    error = np.sqrt(np.asarray(distribution.variance()) / 20_000)
    assert draws.shape == (20_000, *distribution.batch_shape, *distribution.event_shape)
    np.testing.assert_array_less(np.abs(draws.mean(0) - distribution.mean()), 5 * error)
    np.testing.assert_allclose(draws.var(0), distribution.variance(), rtol=0.1)


def test_quantiles_broadcast_over_levels():
    q = jnp.array([0.1, 0.5, 0.9])
    many = mixture(0.0).quantile(q[:, None])
    assert many.shape == (3, B)
    assert np.all(np.diff(many, axis=0) > 0)
    for i in range(3):
        np.testing.assert_allclose(many[i], mixture(0.0).quantile(q[i]), rtol=1e-12)


def test_quantiles_at_zero_and_one_are_the_ends_of_the_support():
    for distribution in (normal(0.0), mixture(0.0)):
        assert np.all(np.isneginf(distribution.quantile(0.0)))
        assert np.all(np.isposinf(distribution.quantile(1.0)))


def test_quantile_of_components_far_apart():
    """A gap without mass between the components: the median may be anywhere in it."""
    gap = Predictive(Normal(jnp.array([-1e6, 1e6]), 1.0))
    median = float(gap.quantile(0.5))
    assert -1e6 < median < 1e6
    np.testing.assert_allclose(gap.quantile(0.25), -1e6, rtol=1e-6)
    gradient = jax.grad(lambda m: Predictive(Normal(m, 1.0)).quantile(0.5))(jnp.array([-1e6, 1e6]))
    assert np.all(np.isfinite(gradient))


def test_predictive_splits_its_variance():
    p = predictive(0.1)
    np.testing.assert_allclose(p.aleatoric + p.epistemic, p.variance(), rtol=1e-12)
    loc = np.asarray(p.components.mean())
    assert loc.shape == (S, B, D)
    np.testing.assert_allclose(p.epistemic, loc.var(0), rtol=1e-12)
    assert p.num_draws == S


def test_mutual_information_lies_between_its_bounds():
    assert np.all(predictive(0.1).mutual_information > 0)
    same = Predictive(Normal(jnp.zeros((4, B)), 1.0))
    np.testing.assert_allclose(same.mutual_information, 0.0, atol=1e-12)
    apart = Predictive(Normal(jnp.array([-50.0, 0.0, 50.0]), 1.0))
    np.testing.assert_allclose(apart.mutual_information, np.log(3), rtol=1e-9)


def test_rsample_is_the_sample_where_it_has_a_gradient():
    d = Independent(normal(0.0), 1)
    key = jax.random.key(1)
    np.testing.assert_array_equal(d.rsample(seed=key), d.sample(seed=key))
    gradient = jax.grad(lambda m: jnp.sum(Normal(m, 1.0).rsample(seed=key)))(0.3)
    assert gradient == 1.0
    with pytest.raises(NotImplementedError, match="score-function"):
        mixture(0.0).rsample(seed=key)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_follows_the_parameters(dtype):
    p = Predictive(Normal(jnp.zeros((4, B), dtype), 1.0))
    for value in (p.mean(), p.quantile(0.3), p.log_prob(jnp.zeros(B, dtype)), p.epistemic):
        assert value.dtype == dtype
    assert p.sample(seed=jax.random.key(0)).dtype == dtype
    assert p.mutual_information.dtype == dtype


def test_readable_repr():
    assert repr(Normal(0.0, 1.0)) == "Normal(loc=0., scale=1.)"
    assert repr(Normal(jnp.zeros(9), 1.0)) == "Normal(loc=float64[9], scale=float64[9])"
    assert "draws=5" in repr(predictive(0.0))


CLASSES = [
    c for c in vars(jd).values() if isinstance(c, type) and issubclass(c, distrax.Distribution)
]


@pytest.mark.parametrize("family", CLASSES, ids=lambda c: c.__name__)
def test_docstrings_say_what_comes_from_the_distrax_class(family):
    hidden = ("_", "equiv_tfp_cls", "tree_")
    taken = set()
    for name in dir(family):
        owner = next((c for c in family.__mro__ if name in vars(c)), None)
        of_family = owner and owner.__module__.startswith("distrax")
        if of_family and owner is not distrax.Distribution and not name.startswith(hidden):
            taken.add(name)
    said = re.search(r"From distrax: ([^.]*)\.", family.__doc__ or "")
    assert taken == set(re.findall(r"`(\w+)`", said[1] if said else ""))
