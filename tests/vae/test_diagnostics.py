"""Active units, information and the sentence, on models whose answers are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxprob import optim, training, vae
from jaxprob.distributions import Independent, Normal
from jaxprob.nn import MLP
from jaxprob.vae.latents import draw

KEY = jax.random.key(0)


class Channel(nn.Module):
    """q(z_l | x) = N(gain_l x_l, scale_l^2): each latent knows what its gain lets through."""

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.ones, (3,))
        scale = self.param("scale", nn.initializers.ones, (3,))
        loc = x * gain[None]
        return Independent(Normal(loc, jnp.broadcast_to(scale, loc.shape)), 1)


class Deaf(nn.Module):
    """A decoder that does not listen to z."""

    def __call__(self, z):
        return Independent(Normal(0.0 * z, 1.0), 1)


MODEL = vae.VAE(Channel(), Deaf(), 3)
X = np.random.default_rng(0).normal(size=(1000, 3))


def found(gain, scale):
    params = {"encoder": {"gain": jnp.asarray(gain), "scale": jnp.asarray(scale)}}
    return vae.diagnostics(MODEL, params, X, KEY)


def test_counts_by_the_rule_of_burda():
    """Variances of 0.64, 0.0121 and 0.0081 times that of x: two above 0.01, one below."""
    report = found((0.8, 0.11, 0.09), (0.6, 0.9, 0.9))
    expected = np.array([0.64, 0.0121, 0.0081]) * X.var(0)
    np.testing.assert_allclose(report.activity, expected, rtol=1e-10)
    assert report.active.tolist() == [True, True, False]
    assert report.active_units == 2


def test_information_of_a_gaussian_channel():
    """I(x; z) = log(1 + gain^2 / scale^2) / 2, and q(z) is normal, so its KL is known too."""
    report = found((0.8, 0.0, 0.0), (0.6, 1.0, 1.0))
    np.testing.assert_allclose(report.mutual_information, 0.5 * np.log(1 + 0.64 / 0.36), atol=0.06)
    kl = 0.5 * (0.64 * X[:, 0] ** 2 + 0.36 - 1 - np.log(0.36)).mean()
    np.testing.assert_allclose(report.kl_per_latent, [kl, 0.0, 0.0], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(report.kl, kl, rtol=1e-10)
    np.testing.assert_allclose(report.marginal_kl, kl - report.mutual_information, rtol=1e-9)
    assert abs(report.marginal_kl) < 0.06, "q(z) is the prior, for x ~ N(0, 1)"
    nll = -stats.norm.logpdf(X).sum(1).mean()
    np.testing.assert_allclose(report.nll, nll, rtol=1e-12)
    np.testing.assert_allclose(report.elbo, -(nll + kl), rtol=1e-12)


@pytest.mark.parametrize(
    ("gain", "scale", "sentence"),
    [
        ((0.0, 0.01, 0.0), (1.0, 1.0, 1.0), "has collapsed: no latent depends on x"),
        ((0.8, 0.0, 0.0), (0.6, 1.0, 1.0), "2 of 3 latents are not used"),
        ((0.8, 0.8, 0.8), (0.6, 0.6, 0.6), "The latents are in use."),
        ((3.0, 3.0, 3.0), (1e-3, 1e-3, 1e-3), "cannot be seen above"),
        ((2.0, 2.0, 2.0), (1.5, 1.5, 1.5), "samples from the prior will look worse"),
    ],
)
def test_says_what_to_do(gain, scale, sentence):
    report = found(gain, scale)
    assert sentence in report.message
    assert sentence in str(report)
    assert f"{report.active_units} of 3 latents active" in str(report)


@pytest.mark.slow
def test_a_decoder_that_ignores_z_makes_the_posterior_collapse():
    """Trained, not made: the ELBO itself drives q to the prior, and the sentence says so."""
    model = vae.VAE(MLP((4,)), Deaf(), 3)
    params = model.init(KEY, X[:1], jnp.zeros((1, 3)))["params"]
    fitted = training.fit(
        vae.negative_elbo(model), params, {"x": X[:200]}, optimizer=optim.adam(0.02),
        epochs=75, batch_size=50, key=KEY, progress=False,
    )  # fmt: skip
    report = vae.diagnostics(model, fitted.params, X, KEY)
    assert report.active_units == 0
    assert report.kl < 0.02
    assert "free_bits" in report.message


def test_a_row_that_counts_twice_is_two_rows():
    """And one of weight 0 is none, whatever it holds."""
    params = {"encoder": {"gain": jnp.ones(3), "scale": jnp.full(3, 0.5)}}
    x = np.concatenate([X[:4], 50.0 * np.ones((2, 3))])
    weight = np.array([1.0, 2.0, 1.0, 3.0, 0.0, 0.0])
    found = vae.diagnostics(MODEL, params, {"x": x, "weight": weight}, KEY)
    repeated = X[np.array([0, 1, 1, 2, 3, 3, 3])]
    plain = vae.diagnostics(MODEL, params, repeated, KEY)
    for name in ("nll", "kl", "kl_per_latent", "activity"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-12)
    # q(z) of both are one mixture, whose information other draws of z estimate
    q = np.log(np.array([1.0, 2.0, 1.0, 3.0]) / 7)
    z = np.asarray(draw(MODEL, params, {"x": x}, KEY, 1).output.z)[0, :4]
    of_rows = stats.norm.logpdf(z[:, None], X[None, :4], 0.5).sum(-1)
    marginal = special.logsumexp(of_rows + q, axis=1)
    information = np.exp(q) @ (np.diag(of_rows) - marginal)
    np.testing.assert_allclose(found.mutual_information, information, rtol=1e-10)


class Levels(nn.Module):
    """A normal law of pixels around 0.5, wide or narrow."""

    scale: float

    def __call__(self, z):
        return Independent(Normal(0.0 * z + 0.5, self.scale), 1)


@pytest.mark.parametrize(("scale", "hint"), [(0.6, True), (0.1, False)])
def test_draws_outside_of_where_the_data_ends_are_named(scale, hint):
    """Pixels between black and white, many of them at an end; no hint of data without one."""
    params = {"encoder": {"gain": jnp.ones(3), "scale": jnp.ones(3)}}
    model = vae.VAE(Channel(), Levels(scale), 3)
    message = vae.diagnostics(model, params, np.clip(X, 0.0, 1.0), KEY).message
    assert ("lie outside of [0, 1]" in message) is hint
    if hint:
        share = round(200 * stats.norm.cdf(-0.5 / scale))
        assert any(f"draws {near}% lie" in message for near in range(share - 3, share + 4))
    assert "outside" not in vae.diagnostics(model, params, X, KEY).message


def test_one_row_has_no_variance():
    with pytest.raises(ValueError, match="at least two rows"):
        vae.diagnostics(MODEL, {}, X[:1], KEY)
