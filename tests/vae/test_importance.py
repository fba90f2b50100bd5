"""Importance weighted bounds and log p(x) against probabilistic PCA, whose answers are known."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp

from jaxprob import heads, vae
from jaxprob.distributions import Independent, Normal
from jaxprob.heads.links import SCALE_FLOOR
from jaxprob.vae import importance
from jaxprob.vae.importance import GRADIENTS
from tests.support.latents import drawn
from tests.vae.linear_gaussian import LOG_MARGINAL, Decoder, Posterior, S, X

KEY = jax.random.key(0)
EXACT = vae.VAE(Posterior(), Decoder(), 2)
WIDE = vae.VAE(Posterior(1.6), Decoder(), 2)
DENSE = vae.DenseVAE(features=4, hidden=(5,), latent_dim=2, likelihood=heads.NormalHead)
PARAMS = drawn(DENSE, X, 0.3)


def test_with_the_exact_posterior_all_weights_are_p():
    @jax.jit
    def run():
        return (
            vae.negative_iwae(EXACT, 3)({}, {"x": X}, KEY),
            vae.log_marginal(EXACT, {}, X, KEY, 7, 3),
        )

    (loss, metrics), estimate = run()
    np.testing.assert_allclose(-loss, LOG_MARGINAL.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["nll"] + metrics["kl"], loss, rtol=1e-10)
    np.testing.assert_allclose(estimate.value, LOG_MARGINAL, rtol=1e-10)
    assert np.all(estimate.standard_error < 1e-6)


def test_the_bound_rises_with_its_draws():
    """Means over 500 keys: L_1 < L_4 < L_16 < log p(x), the last by little."""
    keys = jax.random.split(KEY, 500)

    @jax.jit
    def bounds():
        return [
            -jnp.mean(jax.vmap(lambda k, n=n: vae.negative_iwae(WIDE, n)({}, {"x": X}, k)[0])(keys))
            for n in (1, 4, 16)
        ]

    one, four, sixteen = bounds()
    truth = LOG_MARGINAL.mean()
    assert one < four - 0.1
    assert four < sixteen - 0.02
    assert truth - 0.1 < sixteen < truth
    # a normal q that is too wide by a factor w has KL(q || posterior) = L (w^2 - 1) / 2 - L log w
    np.testing.assert_allclose(truth - one, 1.6**2 - 1 - 2 * np.log(1.6), atol=0.1)


def test_one_draw_is_the_elbo():
    @jax.jit
    def both():
        iwae = vae.negative_iwae(DENSE, 1)(PARAMS, {"x": X}, KEY)
        elbo = vae.negative_elbo(DENSE, analytic_kl=False)(PARAMS, {"x": X}, KEY)
        return iwae, elbo

    (iwae, metrics), (elbo, others) = both()
    np.testing.assert_allclose(iwae, elbo, rtol=1e-12)
    np.testing.assert_allclose(metrics["kl"], others["kl"], rtol=1e-12)


def test_other_bounds_are_these_at_their_ends():
    """Of one key: IWAE and the ELBO to the last digits, and in between in order."""
    orders = (np.inf, 3.0, 1.0 + 1e-7, 1.0, 1.0 - 1e-7, 0.5, 0.0, -2.0, -np.inf)

    @jax.jit
    def run():
        def value(loss):
            return loss(PARAMS, {"x": X}, KEY)[0]

        return {
            "iwae": value(vae.negative_iwae(DENSE, 6)),
            "elbo": value(vae.negative_elbo(DENSE, num_samples=6, analytic_kl=False)),
            "renyi": jnp.stack([value(vae.negative_renyi(DENSE, a, 6)) for a in orders]),
            "ciwae": jnp.stack([value(vae.negative_ciwae(DENSE, 6, b)) for b in (0.0, 0.25, 1.0)]),
            "one": value(vae.negative_renyi(DENSE, 0.3, 1)),
            "elbo of one": value(vae.negative_elbo(DENSE, analytic_kl=False)),
        }

    found = run()
    iwae, elbo, renyi = found["iwae"], found["elbo"], found["renyi"]
    np.testing.assert_allclose(renyi[6], iwae, rtol=1e-12)
    np.testing.assert_allclose(renyi[3], elbo, rtol=1e-12)
    np.testing.assert_allclose(renyi[np.array([2, 4])], elbo, rtol=1e-6)
    assert np.all(np.diff(renyi) < 0.0), "the loss falls with alpha"
    ends = [iwae, 0.25 * elbo + 0.75 * iwae, elbo]
    np.testing.assert_allclose(found["ciwae"], ends, rtol=1e-12)
    np.testing.assert_allclose(found["one"], found["elbo of one"], rtol=1e-12)


def test_renyi_bounds_are_their_closed_form():
    """For a normal q that is too wide by a factor w all moments of the weights are known.

    E_q (p(x, z) / q)^s = p(x)^s [w^(s - 1) / sqrt((1 - s) / w^2 + s)]^L: precisions add up.
    """
    w, draws, orders = 1.6, 20_000, (0.5, -0.4, 1.2)

    def moment(s):
        return (w ** (s - 1.0) / np.sqrt((1.0 - s) / w**2 + s)) ** 2

    @jax.jit
    def bounds():
        return [-vae.negative_renyi(WIDE, a, draws)({}, {"x": X}, KEY)[0] for a in orders]

    for alpha, bound in zip(orders, bounds(), strict=True):
        power = 1.0 - alpha
        gap = np.log(moment(power)) / power
        # the spread of the mean of one row, by the delta method; five rows have one each
        spread = np.sqrt((moment(2 * power) / moment(power) ** 2 - 1.0) / draws) / abs(power)
        error = 4.0 * spread / np.sqrt(len(X))
        assert abs(gap) > 4.0 * error
        assert abs(bound - LOG_MARGINAL.mean() - gap) < error, alpha


class Straight(nn.Module):
    """A decoder whose directions are orthogonal, so that the exact posterior has no correlations.

    x | z ~ N(W z, s^2 I),  z_l | x ~ N(w_l' x / (|w_l|^2 + s^2), s^2 / (|w_l|^2 + s^2)).
    """

    def __call__(self, z):
        return Independent(Normal(z @ DIRECTIONS.T, S), 1)


class Itself(nn.Module):
    """Features that are the data."""

    def __call__(self, x):
        return x


DIRECTIONS = np.array([[1.0, 0.5], [1.0, -0.5], [-0.5, 1.0], [0.5, 1.0]])
STRAIGHT = vae.VAE(Itself(), Straight(), 2)


LOG_WEIGHTS = np.array([[-3.0, -20.3], [-np.inf, -5e7], [-2.0, -4.1e7]])


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5, 0.95])
def test_draws_that_weigh_nothing(alpha):
    """log mean_k w_k^(1 - alpha) / (1 - alpha), also where the weights are far apart."""
    power = 1.0 - alpha
    expected = (sp.logsumexp(power * LOG_WEIGHTS, axis=0) - np.log(3)) / power
    for dtype, digits in ((jnp.float64, 1e-12), (jnp.float32, 1e-5)):
        weights = jnp.asarray(LOG_WEIGHTS, dtype)
        found = jax.jit(lambda w: importance._renyi(alpha, w))(weights)
        np.testing.assert_allclose(found, expected, rtol=digits)
        slope = jax.jit(jax.grad(lambda w: jnp.sum(importance._renyi(alpha, w))))(weights)
        np.testing.assert_allclose(jnp.sum(slope, 0), 1.0, rtol=10 * digits)


def test_the_order_may_come_near_that_of_the_elbo():
    """mean + (1 - alpha) variance / 2, to first order."""
    w = np.array([[-1.0], [-2.5], [-0.5], [-1.1]])
    for alpha in (1.0 - 1e-5, 1.0 + 1e-5):
        found = jax.jit(lambda w, a=alpha: importance._renyi(a, w))(jnp.asarray(w, jnp.float32))
        np.testing.assert_allclose(found, w.mean() + 0.5 * (1 - alpha) * w.var(), rtol=1e-6)


def exact_encoder():
    """Parameters with which q(z | x) is the posterior."""
    total = np.sum(DIRECTIONS**2, 0) + S**2
    raw = np.log(np.expm1(S / np.sqrt(total) - SCALE_FLOOR))
    kernel = np.concatenate([DIRECTIONS / total, np.zeros((4, 2))], 1)
    return {"posterior": {"out": {"kernel": kernel, "bias": np.concatenate([np.zeros(2), raw])}}}


def test_the_doubly_reparameterised_gradient_is_right_and_quieter():
    """Without variance at the exact posterior, unbiased and quieter near it."""

    @jax.jit
    def slopes(params, keys):
        def of(gradient):
            loss = vae.negative_iwae(STRAIGHT, 8, gradient)
            slope = jax.vmap(lambda k: jax.grad(lambda p: loss(p, {"x": X}, k)[0])(params))(keys)
            leaves = [leaf.reshape(len(keys), -1) for leaf in jax.tree.leaves(slope)]
            return jnp.concatenate(leaves, 1)

        return of("reparameterized"), of("doubly_reparameterized")

    keys = jax.random.split(KEY, 2000)
    exact = exact_encoder()
    plain, double = map(np.asarray, slopes(exact, keys))
    assert np.max(np.abs(double)) < 1e-10
    assert np.max(np.abs(plain)) > 0.1

    rng = np.random.default_rng(0)
    near = jax.tree.map(lambda leaf: leaf + 0.03 * rng.normal(size=leaf.shape), exact)
    plain, double = map(np.asarray, slopes(near, keys))
    gap = np.abs(plain.mean(0) - double.mean(0))
    gap /= np.sqrt((plain.var(0) + double.var(0)) / len(keys))
    assert np.mean(gap**2) < 2.0, "unbiased: about 1 if errors are as stated"
    assert np.max(gap) < 4.5
    assert double.var(0).sum() < 0.5 * plain.var(0).sum()
    assert np.abs(double.mean(0)).max() > 0.1, "a gradient that the errors can resolve"


def test_the_decoder_has_one_gradient_for_both():
    """The second decoding of a step drops out what the first did."""
    parts = [nn.Dense(5), nn.Dropout(0.5, deterministic=False), heads.NormalHead(4)]
    model = vae.VAE(Posterior(), nn.Sequential(parts), 2)
    rng = np.random.default_rng(0)
    params = {"decoder": {
        "layers_0": {"kernel": rng.normal(size=(2, 5)), "bias": rng.normal(size=5)},
        "layers_2": {"out": {"kernel": rng.normal(size=(5, 8)), "bias": rng.normal(size=8)}},
    }}  # fmt: skip

    @jax.jit
    def slopes(key):
        losses = [vae.negative_iwae(model, 4, gradient) for gradient in GRADIENTS]
        return [jax.grad(lambda p, f=f: f(p, {"x": X}, key)[0])(params) for f in losses]

    for a, b in zip(*map(jax.tree.leaves, slopes(KEY)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_log_marginal_does_not_depend_on_the_chunks():
    @jax.jit
    def run():
        return [vae.log_marginal(DENSE, PARAMS, X, KEY, 23, size) for size in (23, 5)]

    whole, parts = run()
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-10)


def test_log_marginal_holds_a_chunk_in_memory():
    """No array has the number of draws as an axis, unless one chunk is asked for."""

    def has_axis(chunk_size):
        def run():
            return vae.log_marginal(DENSE, PARAMS, X, KEY, 10_000, chunk_size)

        return re.search(r"\[(\d+,)*10000(,\d+)*\]", str(jax.make_jaxpr(run)())) is not None

    assert not has_axis(10)
    assert has_axis(10_000)


@pytest.mark.parametrize(
    ("repeats", "samples", "slack"),
    [(200, 100, 0.025), pytest.param(2000, 1000, 0.01, marks=pytest.mark.slow)],
)
def test_error_covers_the_truth(repeats, samples, slack):
    """On 5 rows: 95 % of the intervals hold the truth, and errors are as large as the spread."""
    keys = jax.random.split(KEY, repeats)
    run = jax.jit(lambda ks: jax.lax.map(
        lambda k: vae.log_marginal(WIDE, {}, X, k, samples), ks, batch_size=20))  # fmt: skip
    value, error = map(np.asarray, run(keys))
    covered = np.mean(np.abs(value - LOG_MARGINAL) < 1.96 * error)
    assert abs(covered - 0.95) < slack
    spread = np.std(value, 0)
    np.testing.assert_allclose(error.mean(0), spread, rtol=3 / np.sqrt(2 * repeats))
    # the mean lies below the truth by half the square of the error
    below = LOG_MARGINAL - value.mean(0)
    np.testing.assert_allclose(
        below, 0.5 * (error**2).mean(0), atol=4 * spread.max() / np.sqrt(repeats)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.negative_iwae(DENSE, 0), "num_samples must be at least 1"),
        (lambda: vae.negative_iwae(DENSE, 2, "score"), "gradient must be one of reparam"),
        (lambda: vae.negative_renyi(DENSE, 0.5, 0), "num_samples must be at least 1; got 0"),
        (lambda: vae.negative_renyi(DENSE, np.nan, 2), "alpha must be a number; got nan"),
        (lambda: vae.negative_ciwae(DENSE, 2, 1.5), "beta must lie in .0, 1.; got 1.5"),
        (lambda: vae.log_marginal(DENSE, PARAMS, X, KEY, 1), "num_samples must be at least 2"),
        (lambda: vae.log_marginal(DENSE, PARAMS, X, KEY, 9, 0), "chunk_size must be at least 1"),
    ],
)
def test_refuses_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
