"""Images of any size: shapes, the likelihood of pixels, other heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import heads, vae
from jaxprob.distributions import Normal
from jaxprob.vae.latents import noise
from tests.support.latents import drawn


@pytest.mark.parametrize("shape", [(5, 7, 1), (8, 5, 3), (28, 28, 1), (1, 2, 1), (9, 13, 2)])
@pytest.mark.parametrize("channels", [(3, 4), (2, 3, 4)])
def test_the_decoder_gives_back_the_size(shape, channels):
    model = vae.ConvVAE(shape, channels, 2)
    x, eps = jnp.zeros((3, *shape)), jnp.zeros((2, 3, 2))

    def run(x, eps):
        out = model.apply(model.init(jax.random.key(0), x[:1], eps[0, :1]), x, eps)
        assert (out.p.batch_shape, out.p.event_shape) == ((2, 3), shape)
        assert (out.q.batch_shape, out.q.event_shape) == ((3,), (2,))
        return out.p.log_prob(x[None])

    assert jax.eval_shape(run, x, eps).shape == (2, 3)


def test_the_loss_sums_over_pixels():
    shape = (5, 4, 2)
    model = vae.ConvVAE(shape, (3, 4), 2, activation=jnp.tanh)
    x = (np.random.default_rng(0).uniform(size=(3, *shape)) > 0.5) * 1.0
    params = drawn(model, x)

    @jax.jit
    def run(params):
        _, metrics = vae.negative_elbo(model)(params, {"x": x}, jax.random.key(0))
        eps = noise(jax.random.split(jax.random.key(0), 3)[0], 1, 3, 2, x.dtype)
        logits = model.apply({"params": params}, x, eps).p.distribution.distribution.logits[0]
        return metrics["nll"], jnp.sum(jax.nn.softplus(logits) - x * logits, (1, 2, 3))

    nll, by_hand = run(params)
    np.testing.assert_allclose(nll, by_hand.mean(), rtol=1e-12)


def test_any_head():
    model = vae.ConvVAE((4, 6, 3), (2, 3), 2, likelihood=heads.NormalHead)
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
    out = jax.jit(lambda p: model.apply({"params": p}, x, jnp.zeros((2, 2))))(drawn(model, x))
    assert out.p.event_shape == (4, 6, 3)
    assert isinstance(out.p.marginal(), Normal)


def test_refuses_images_of_another_size_and_no_convolution():
    with pytest.raises(ValueError, match=r"ConvVAE: x has shape \(2, 28, 28\); expected \[B, H"):
        vae.ConvVAE().init(jax.random.key(0), jnp.zeros((2, 28, 28)), jnp.zeros((2, 20)))
    with pytest.raises(ValueError, match="channels must name at least one"):
        vae.ConvVAE(channels=()).init(
            jax.random.key(0), jnp.zeros((2, 28, 28, 1)), jnp.zeros((2, 20))
        )
