"""The ELBO against exact answers, and what its options mean."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import heads, objectives, optim, training, vae
from jaxprob.nn import as_params
from jaxprob.vae.latents import noise
from tests.support.latents import drawn
from tests.vae.linear_gaussian import COVARIANCE, LOG_MARGINAL, Decoder, Posterior, S, W, X

KEY = jax.random.key(0)
EXACT = vae.VAE(Posterior(), Decoder(), 2)
MARGINALS = vae.VAE(Posterior(factorised=True), Decoder(), 2)
DENSE = vae.DenseVAE(features=4, hidden=(5,), latent_dim=2, likelihood=heads.NormalHead)
PARAMS = drawn(DENSE, X)
FLOOR = 1.09  # between the two latents


def test_with_the_exact_posterior_every_draw_gives_log_p():
    loss, metrics = jax.jit(vae.negative_elbo(EXACT, analytic_kl=False))({}, {"x": X}, KEY)
    np.testing.assert_allclose(-loss, LOG_MARGINAL.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["nll"] + metrics["kl"], loss, rtol=1e-12)


def test_the_bound_in_closed_form():
    """E_q log p(x | z) of a linear decoder is known, and so the ELBO of any normal q."""

    @jax.jit
    def run():
        losses = [
            vae.negative_elbo(MARGINALS, num_samples=20_000, analytic_kl=analytic)
            for analytic in (True, False)
        ]
        mean = MARGINALS.apply({}, X, method="encode").mean()
        return mean, Decoder()(mean).mean(), *(loss({}, {"x": X}, KEY) for loss in losses)

    mean, copies, (loss, metrics), (_, estimated) = run()
    spread = np.sum(np.diag(W.T @ W) * np.diag(COVARIANCE))
    squares = np.sum((X - np.asarray(copies)) ** 2, -1) + spread
    nll = np.mean(squares) / (2 * S**2) + 2 * np.log(2 * np.pi * S**2)
    np.testing.assert_allclose(metrics["nll"], nll, atol=0.05)
    variance = np.diag(COVARIANCE)
    kl = 0.5 * np.mean(np.sum(variance + np.asarray(mean) ** 2 - 1 - np.log(variance), -1))
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-12)
    np.testing.assert_allclose(estimated["kl"], kl, atol=0.05)
    assert -loss < LOG_MARGINAL.mean()


@pytest.fixture(scope="module")
def settings():
    """The same draws under several options, in one program."""
    schedule = objectives.linear_annealing(10)

    @jax.jit
    def run(batch):
        def loss(**options):
            return vae.negative_elbo(DENSE, **options)(PARAMS, batch, KEY)

        q = DENSE.apply({"params": PARAMS}, batch["x"], method="encode")
        return {
            "kl": DENSE.apply({"params": PARAMS}, q, method="kl"),
            "plain": loss(),
            "beta": loss(beta=4.0),
            "schedule": loss(beta=schedule),
            "floor": loss(free_bits=FLOOR),
            "both": loss(free_bits=FLOOR, beta=4.0),
        }

    return run({"x": X, "step": jnp.asarray(3)}), run


def test_beta_weights_the_kl(settings):
    found, _ = settings
    loss, metrics = found["plain"]
    np.testing.assert_allclose(loss, metrics["nll"] + metrics["kl"], rtol=1e-14)
    np.testing.assert_allclose(found["beta"][0], metrics["nll"] + 4.0 * metrics["kl"], rtol=1e-14)
    assert found["beta"][1] == metrics
    np.testing.assert_allclose(found["schedule"][1]["beta"], 0.3, rtol=1e-14)
    expected = metrics["nll"] + 0.3 * metrics["kl"]
    np.testing.assert_allclose(found["schedule"][0], expected, rtol=1e-14)


def test_free_bits_hold_for_each_latent_over_the_batch(settings):
    found, _ = settings
    nll, kl = found["plain"][1]["nll"], np.mean(found["kl"], axis=0)
    assert np.min(kl) < FLOOR < np.max(kl), "one latent above the floor, one below"
    floored = np.sum(np.maximum(kl, FLOOR))
    np.testing.assert_allclose(found["floor"][0], nll + floored, rtol=1e-13)
    np.testing.assert_allclose(found["both"][0], nll + 4.0 * floored, rtol=1e-13)
    np.testing.assert_allclose(found["floor"][1]["kl"], np.sum(kl), rtol=1e-13)


def test_missing_values_change_nothing():
    """They may be anything, and count as 0 for the encoder; gradients included."""
    loss = vae.negative_elbo(DENSE, num_samples=3, free_bits=0.1)
    run = jax.jit(jax.value_and_grad(lambda p, batch: loss(p, batch, KEY), has_aux=True))
    mask = np.random.default_rng(1).uniform(size=X.shape) < 0.7
    x = np.where(mask, X, 0.0)
    plain = run(PARAMS, {"x": X, "mask": mask})
    other = run(PARAMS, {"x": np.where(mask, X, np.nan), "mask": mask})
    for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(a, b)
    eps = noise(jax.random.split(KEY, 3)[0], 3, 5, 2, x.dtype)
    p = jax.jit(lambda: DENSE.apply({"params": PARAMS}, x, eps).p.marginal())()
    terms = stats.norm.logpdf(x, p.loc, p.scale) * mask
    np.testing.assert_allclose(plain[0][1]["nll"], -terms.sum(-1).mean(), rtol=1e-12)


def test_binarize_draws_each_pixel_with_its_grey_level():
    grey = jnp.tile(jnp.array([0.0, 0.2, 1.0]), (20_000, 1))
    drawn = vae.binarize(grey, KEY)
    assert drawn.dtype == grey.dtype
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(0), [0.0, 0.2, 1.0], atol=0.015)


def test_a_loss_that_binarizes_sees_other_pixels_each_step():
    grey = {"x": jax.nn.sigmoid(jnp.asarray(X))}

    @jax.jit
    def run(key):
        drawn_anew = vae.negative_elbo(DENSE, binarize=True)(PARAMS, grey, key)
        pixels = vae.binarize(grey["x"], jax.random.split(key, 3)[1])
        return drawn_anew, vae.negative_elbo(DENSE)(PARAMS, {"x": pixels}, key), pixels

    (loss, _), (given, _), pixels = run(KEY)
    np.testing.assert_allclose(loss, given, rtol=1e-12)
    assert np.any(run(jax.random.key(1))[2] != pixels)


@pytest.mark.slow
def test_trains_in_one_program_and_validates():
    """Training finds the model that made the data: probabilistic PCA, whose optimum is known."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(500, 2)) @ W.T + S * rng.normal(size=(500, 4))
    model = vae.DenseVAE(features=4, hidden=(), latent_dim=2,
                         likelihood=lambda d: heads.NormalHead(d, homoscedastic=True))  # fmt: skip
    params = drawn(model, x[:1], 0.1)
    fitted = training.fit(
        vae.negative_elbo(model), params, {"x": x}, optimizer=optim.adam(2e-2), epochs=60,
        batch_size=50, key=KEY, validation={"x": x[:100]}, progress=False,
    )  # fmt: skip
    assert {"loss", "nll", "kl", "validation_loss"} <= set(fitted.history)
    values = np.linalg.eigvalsh(np.cov(x.T))
    noise = values[:2].mean()
    best = -0.5 * (4 * np.log(2 * np.pi) + np.log(values[2:]).sum() + 2 * np.log(noise) + 4)
    # the posterior of this encoder has no correlations: rotated latents need none
    assert -fitted.history["loss"][-5:].mean() > best - 0.15
    assert -fitted.history["loss"][-5:].mean() < best + 0.05


class Moody(nn.Module):
    """An encoder that behaves otherwise in training."""

    @nn.compact
    def __call__(self, x, train: bool):
        h = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        return nn.Dropout(0.5, deterministic=not train)(h)


def test_modules_inside_learn_whether_this_is_training():
    """`train` reaches an encoder that asks for it; `evaluate` is the mode of prediction."""
    model = vae.VAE(Moody(), nn.Sequential([heads.NormalHead(4)]), 2)
    shapes = jax.eval_shape(lambda: model.init(KEY, X, jnp.zeros((5, 2))))
    params = as_params(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
    loss = vae.negative_elbo(model)
    _, metrics = jax.jit(loss)(params, {"x": X}, KEY)
    moved = metrics["collections"]["batch_stats"]["encoder"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(moved, 0.5 * X.mean(0), rtol=1e-10)
    _, metrics = jax.eval_shape(loss.evaluate, params, {"x": X}, KEY)
    assert "collections" not in metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"beta": -1.0}, "beta must not be negative"),
        ({"free_bits": -0.1}, "free_bits must not be negative"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        vae.negative_elbo(DENSE, **options)


def test_a_kl_without_closed_form_names_the_option():
    mixture = vae.VAE(Posterior(), Decoder(), 2, vae.MixturePrior(3))
    params = drawn(mixture, X)
    with pytest.raises(NotImplementedError, match="analytic_kl=False"):
        jax.eval_shape(vae.negative_elbo(mixture), params, {"x": X}, KEY)


def test_the_kl_of_a_posterior_with_a_full_covariance():
    metrics = jax.jit(vae.negative_elbo(EXACT))({}, {"x": X}, KEY)[1]
    q = EXACT.apply({}, X, method="encode")
    covariance, mean = np.asarray(q.covariance()), np.asarray(q.mean())
    of_each = 0.5 * (np.trace(covariance, axis1=-2, axis2=-1) + (mean**2).sum(-1) - 2)
    of_each = of_each - 0.5 * np.linalg.slogdet(covariance)[1]
    np.testing.assert_allclose(metrics["kl"], of_each.mean(), rtol=1e-12)


def test_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=r'batch\["mask"\] has shape \(5,\)'):
        jax.eval_shape(vae.negative_elbo(DENSE), PARAMS, {"x": X, "mask": np.ones(5, bool)}, KEY)


def test_grey_levels_outside_of_the_unit_interval():
    bytes_ = np.array([0, 255], np.uint8)
    with pytest.raises(ValueError, match="binarize: x must be between 0 and 1"):
        vae.binarize(bytes_, KEY)
    np.testing.assert_array_equal(
        jax.jit(vae.binarize)(np.array([0.0, 2.0, 1.0]), KEY), [0, np.nan, 1]
    )
