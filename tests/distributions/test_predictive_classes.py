"""`Predictive` over classes and coin flips, against enumeration in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxprob.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    Normal,
    OneHotCategorical,
    Poisson,
    Predictive,
)

RNG = np.random.default_rng(0)
S, B, K = 4, 3, 5
LOGITS = RNG.normal(0.0, 2.0, (S, B, K))
P = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
FLIPS = RNG.uniform(size=(S, B, 2))


def entropy(probs):
    return scipy.stats.entropy(probs, axis=-1)


@pytest.mark.parametrize("make", [Categorical, OneHotCategorical])
def test_classes(make):
    p = jax.jit(lambda logits: Predictive(make(logits=logits)))(LOGITS)
    mean = P.mean(0)
    np.testing.assert_allclose(p.probs, mean, rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), entropy(mean), rtol=1e-12)
    information = entropy(mean) - entropy(P).mean(0)
    np.testing.assert_allclose(p.mutual_information, information, rtol=1e-10)
    assert np.all(information > 0.05)
    np.testing.assert_allclose(p.aleatoric, (P * (1 - P)).mean(0), rtol=1e-12)
    np.testing.assert_allclose(p.epistemic, P.var(0), rtol=1e-12)
    np.testing.assert_allclose(p.aleatoric + p.epistemic, mean * (1 - mean), rtol=1e-12)
    one_hot = np.eye(K)[mean.argmax(-1)]
    np.testing.assert_array_equal(
        p.mode(), one_hot if make is OneHotCategorical else mean.argmax(-1)
    )


def test_coin_flips_of_several_elements():
    p = Predictive(Independent(Bernoulli(probs=FLIPS), 1))
    both = np.stack([1 - FLIPS, FLIPS], -1)
    np.testing.assert_allclose(p.probs, FLIPS.mean(0), rtol=1e-12)
    information = entropy(both.mean(0)) - entropy(both).mean(0)
    np.testing.assert_allclose(p.mutual_information, information, rtol=1e-9)
    np.testing.assert_array_equal(p.mode(), FLIPS.mean(0) > 0.5)
    with pytest.raises(NotImplementedError, match="over vectors"):
        p.entropy()


def test_several_class_targets():
    logits = RNG.normal(0.0, 2.0, (S, B, 2, K))
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p = Predictive(Independent(Categorical(logits=logits), 1))
    mean = probs.mean(0)
    np.testing.assert_allclose(p.probs, mean, rtol=1e-12)
    np.testing.assert_array_equal(p.mode(), mean.argmax(-1))
    information = entropy(mean) - entropy(probs).mean(0)
    np.testing.assert_allclose(p.mutual_information, information, rtol=1e-9)
    np.testing.assert_allclose(p.epistemic, probs.var(0), rtol=1e-12)
    np.testing.assert_allclose(p.aleatoric, (probs * (1 - probs)).mean(0), rtol=1e-12)


def test_entropy_of_scalars_is_that_of_the_mixture():
    loc = np.array([[-1.0], [0.5], [2.0]])
    p = Predictive(Normal(loc, 0.7))
    y = np.linspace(-8, 9, 20001)
    density = scipy.stats.norm.pdf(y, loc, 0.7).mean(0)
    truth = np.trapezoid(-density * np.log(density), y)
    np.testing.assert_allclose(p.entropy()[0], truth, rtol=1e-6)


def test_draws_that_agree_tell_nothing():
    same = Predictive(Categorical(logits=np.broadcast_to(LOGITS[0], (S, B, K))))
    np.testing.assert_allclose(same.mutual_information, 0.0, atol=1e-12)
    certain = Predictive(Categorical(logits=jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]])))
    np.testing.assert_allclose(certain.mutual_information, np.log(2.0), rtol=1e-12)


@pytest.mark.parametrize("name", ["probs", "mode"])
def test_what_counts_do_not_have(name):
    p = Predictive(Poisson(jnp.ones((2, 3))))
    with pytest.raises((AttributeError, NotImplementedError), match="classes|closed form"):
        p.mode() if name == "mode" else p.probs  # noqa: B018
