"""Models with discrete latents in the functions that use a trained model, and their refusals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import heads, vae
from jaxprob.nn import MLP

D, KEY = 4, jax.random.key(0)


def model_of(num_categories):
    decoder = nn.Sequential([MLP((4,), nn.tanh), heads.BernoulliHead(D)])
    return vae.DiscreteVAE(MLP((4,), nn.tanh), decoder, 3, num_categories, learn_prior=True)


def params_of(model):
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(model.init, KEY, np.zeros((2, D)), KEY)["params"]
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.0, 0.7, leaf.shape)), shapes)


@pytest.mark.parametrize("num_categories", [2, 3])
def test_samples_and_reconstructions(num_categories):
    model = model_of(num_categories)
    params = params_of(model)
    x = np.asarray(vae.sample(model, params, KEY, 4000))
    means = np.asarray(vae.sample(model, params, KEY, 4000, mean=True))
    np.testing.assert_allclose(x.mean(0), means.mean(0), atol=4 * 0.5 / np.sqrt(4000))
    rows = x[:3].astype(float)
    q = model.apply({"params": params}, rows, method="encode")
    p = model.apply({"params": params}, jnp.asarray(q.mode(), float), method="decode")
    found = vae.reconstruct(model, params, rows)
    np.testing.assert_allclose(found.mean(), p.mean(), rtol=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda model, x: vae.negative_elbo(model)({}, {"x": x}, KEY),
        lambda model, x: vae.negative_iwae(model, 3)({}, {"x": x}, KEY),
        lambda model, x: vae.log_marginal(model, {}, x, KEY, 10),
        lambda model, x: vae.diagnostics(model, {}, x, KEY),
    ],
)
def test_functions_of_gaussian_latents_name_the_loss_of_discrete_ones(function):
    quantized = vae.VQVAE(nn.Dense(4), heads.BernoulliHead(6), 5, 4)
    x = np.zeros((2, 6))
    for model, name in ((model_of(2), "negative_discrete_elbo"), (quantized, "vq_loss")):
        with pytest.raises(ValueError, match=f"discrete latents.*vae.{name}"):
            function(model, x)


@pytest.mark.parametrize(
    "function",
    [
        lambda model, x: vae.negative_elbo(model)({}, {"x": x}, KEY),
        lambda model, x: vae.log_marginal(model, {}, x, KEY, 10),
        lambda model, x: vae.sample(model, {}, KEY, 3),
        lambda model, x: vae.reconstruct(model, {}, x),
        lambda model, x: vae.traverse(model, {}, x, 0),
    ],
)
def test_functions_of_autoencoders_say_what_is_none(function):
    classes = vae.LatentClassModel(3, (2, 2))
    with pytest.raises(ValueError, match="LatentClassModel is no autoencoder.*DenseVAE"):
        function(classes, np.zeros((4, 2)))


def test_there_is_no_path_between_discrete_latents():
    x = np.zeros((2, D))
    with pytest.raises(ValueError, match="interpolate: the latents of DiscreteVAE are discrete"):
        vae.interpolate(model_of(2), {}, x, x)
    with pytest.raises(ValueError, match="traverse: the latents of DiscreteVAE are discrete"):
        vae.traverse(model_of(2), {}, x, 0)
