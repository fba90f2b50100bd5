"""Samples have the model's distribution; paths go where they should."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import heads, vae
from jaxprob.distributions import Categorical, Independent
from jaxprob.vae import generate
from tests.support.latents import drawn
from tests.vae.linear_gaussian import B, Decoder, Posterior, S, W, X

KEY = jax.random.key(0)
PCA = vae.VAE(Posterior(), Decoder(), 2)


def test_samples_are_those_of_probabilistic_pca():
    x, means = vae.sample(PCA, {}, KEY, 20_000), vae.sample(PCA, {}, KEY, 20_000, mean=True)
    covariance = W @ W.T + S**2 * np.eye(4)
    size = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(x.mean(0), B, atol=4 * size.max() / 141)
    assert np.max(np.abs(np.cov(x.T) - covariance) / np.outer(size, size)) < 0.05
    np.testing.assert_allclose(np.std(x - means, axis=0), S, rtol=0.03)


def test_samples_of_pixels_have_their_shape():
    model = vae.ConvVAE((5, 4, 1), (2, 3), 2)
    params = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32), drawn(model, np.zeros((1, 5, 4, 1)))
    )
    x = vae.sample(model, params, KEY, 6)
    assert x.shape == (6, 5, 4, 1)
    assert set(np.unique(x)) <= {0, 1}


class GreyLevels(nn.Module):
    """Pixels of five grey levels each."""

    @nn.compact
    def __call__(self, z):
        logits = nn.Dense(20)(z).reshape(*z.shape[:-1], 4, 5)
        return Independent(Categorical(logits=logits), 1)


def test_of_classes_the_mean_is_the_most_probable_one():
    """Both of latents that are normal and that are discrete."""
    normal = vae.VAE(nn.Dense(3), GreyLevels(), 2)
    discrete = vae.DiscreteVAE(nn.Dense(3), GreyLevels(), 2)
    shapes = jax.eval_shape(lambda: discrete.init(KEY, jnp.zeros((1, 4)), KEY))["params"]
    rng = np.random.default_rng(0)
    for model, params in (
        (normal, drawn(normal, np.zeros((1, 4)))),
        (discrete, jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)),
    ):
        x = vae.sample(model, params, KEY, 6, mean=True)
        z = model.apply({"params": params}, jax.random.split(KEY)[0], 6, method="sample_prior")
        logits = model.apply({"params": params}, z, method="decode").distribution.logits
        np.testing.assert_array_equal(x, np.argmax(logits, -1))


class Censored(nn.Module):
    """A likelihood that has no mean in closed form."""

    @nn.compact
    def __call__(self, z):
        class NoMean(heads.NormalHead(4)(z).distribution.__class__):
            def mean(self):
                raise NotImplementedError

        p = heads.NormalHead(4)(z).distribution
        return Independent(NoMean(p.loc, p.scale), 1)


def test_a_likelihood_without_a_mean_says_so():
    model = vae.VAE(nn.Dense(3), Censored(), 2)
    params = jax.tree.map(jnp.zeros_like, drawn(model, X))
    with pytest.raises(ValueError, match="VAE: p.x . z. is NoMean, which has no mean. Draw from"):
        vae.sample(model, params, KEY, 2, mean=True)


def test_reconstruction_is_the_mean_of_the_posterior_mean():
    p = vae.reconstruct(PCA, {}, X)
    code = np.asarray(PCA.apply({}, X, method="encode").mean())
    np.testing.assert_allclose(p.mean(), code @ W.T + B, rtol=1e-12)


def test_paths_between_rows():
    straight = vae.interpolate(PCA, {}, X[:2], X[2:4], num=3)
    turned = vae.interpolate(PCA, {}, X[:2], X[2:4], num=5, spherical=True)
    ends = np.asarray(vae.reconstruct(PCA, {}, X[:4]).mean())
    for path in (straight, turned):
        np.testing.assert_allclose(path.mean()[0], ends[:2], rtol=1e-9)
        np.testing.assert_allclose(path.mean()[-1], ends[2:], rtol=1e-9)
    np.testing.assert_allclose(straight.mean()[1], 0.5 * (ends[:2] + ends[2:]), rtol=1e-9)


def test_a_spherical_path_turns_evenly_and_keeps_the_length():
    start, end = np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0], [2.0, 2.0]])
    path = jax.jit(generate._spherical)(jnp.asarray(start), jnp.asarray(end), jnp.linspace(0, 1, 4))
    angle = np.linspace(0, np.pi / 2, 4)
    np.testing.assert_allclose(
        path[:, 0], 2 * np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12
    )
    # parallel codes have no angle: the straight line
    np.testing.assert_allclose(path[:, 1, 0], np.linspace(1, 2, 4), rtol=1e-12)


def test_traversal_moves_one_latent():
    model = vae.DenseVAE(features=4, hidden=(5,), latent_dim=3, likelihood=heads.NormalHead)
    params = drawn(model, X)
    values = np.array([-1.0, 2.0])

    @jax.jit
    def run():
        variables = {"params": params}
        code = model.apply(variables, X, method="encode").mean()
        moved = [code.at[:, 1].set(value) for value in values]
        alone = [model.apply(variables, z, method="decode").mean() for z in moved]
        return vae.traverse(model, params, X, 1, values).mean(), jnp.stack(alone)

    np.testing.assert_allclose(*run(), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vae.sample(PCA, {}, KEY, 0), "num must be at least 1"),
        (lambda: vae.traverse(PCA, {}, X, True), "latent must be a whole number; got True"),
        (lambda: vae.interpolate(PCA, {}, X, X, 1), "num must be at least 2"),
        (lambda: vae.interpolate(PCA, {}, X, X[:2]), "as many rows"),
        (lambda: vae.traverse(PCA, {}, X, 2), "latent must be from 0 to 1; got 2"),
    ],
)
def test_refuses_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
