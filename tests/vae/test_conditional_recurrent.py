"""Sequences with a condition: that of a row is a shift of biases, so each row has a plain model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import heads, vae
from tests.support.latents import drawn

KEY = jax.random.key(0)
B, T, L, H, C = 3, 3, 1, 3, 2
_rng = np.random.default_rng(4)
X = _rng.normal(size=(B, T, 2))
BATCH = {"x": X, "lengths": np.array([2, 3, 1]), "condition": _rng.normal(size=(B, C))}
MODEL = vae.ConditionalRecurrentVAE(heads.NormalHead(2), latent_dim=L, hidden_size=H)
PLAIN = vae.RecurrentVAE(heads.NormalHead(2), latent_dim=L, hidden_size=H)
PARAMS = drawn(MODEL, X, 0.7, condition=BATCH["condition"])


def plain_params(condition):
    """Params of the model of one condition `[C]`: its product with the weights joins the biases."""
    cell, out = PARAMS["decoder"], PARAMS["posterior"]["out"]
    weight, shift = cell["weight_ih_l0"], cell["weight_ih_l0"][:, -C:] @ condition
    decoder = {
        **cell, "weight_ih_l0": weight[:, :-C], "bias_ih_l0": cell["bias_ih_l0"] + shift,
    }  # fmt: skip
    kernel, bias = out["kernel"][:H], out["bias"] + condition @ out["kernel"][H:]
    return {**PARAMS, "decoder": decoder, "posterior": {"out": {"kernel": kernel, "bias": bias}}}


@pytest.fixture(scope="module")
def alone():
    """Log-weights of each row by the plain model, with the noise that the row has in the batch."""
    eps = jax.random.normal(KEY, (4, B, L))

    @jax.jit
    def run(params, x, noise):
        variables = {"params": params}
        output = PLAIN.apply(variables, x, noise)
        log_q, log_prior = PLAIN.apply(variables, output, method="log_densities_of_draws")
        return output.z, output.p.log_prob(x) + jnp.sum(log_prior - log_q, -1)

    rows = []
    for b, length in enumerate(BATCH["lengths"]):
        found = run(plain_params(BATCH["condition"][b]), X[b : b + 1, :length], eps[:, b : b + 1])
        rows.append(found)
    z, weights = (np.concatenate([row[i] for row in rows], 1) for i in range(2))
    return eps, z, weights


def test_a_row_is_the_plain_model_of_its_condition(alone):
    eps, z, weights = alone
    extra = {name: BATCH[name] for name in MODEL.takes}
    variables = {"params": PARAMS}
    output = MODEL.apply(variables, X, eps, **extra)
    np.testing.assert_allclose(output.z, z, rtol=1e-12)
    log_q, log_prior = MODEL.apply(variables, output, **extra, method="log_densities_of_draws")
    steps = output.p.distribution.log_prob(X)
    valid = np.arange(T) < BATCH["lengths"][:, None]
    found = jnp.sum(jnp.where(valid, steps, 0.0), -1) + jnp.sum(log_prior - log_q, -1)
    np.testing.assert_allclose(found, weights, rtol=1e-11)


def test_draws_are_those_of_the_plain_model():
    given = {"condition": BATCH["condition"]}
    means = vae.sample(MODEL, PARAMS, KEY, 2, mean=True, given=given, num_steps=4)
    assert means.shape == (2, B, 4, 2)
    z = jax.random.normal(jax.random.split(KEY)[0], (2, B, L))
    for b in range(B):
        expected = PLAIN.apply(
            {"params": plain_params(BATCH["condition"][b])},
            z[:, b],
            KEY,
            True,
            4,
            method="generate",
        )
        np.testing.assert_allclose(means[:, b], expected, rtol=1e-11)


def test_refuses():
    with pytest.raises(ValueError, match="ConditionalRecurrentVAE needs a condition"):
        vae.negative_elbo(MODEL)(PARAMS, {"x": X}, KEY)
    with pytest.raises(ValueError, match="one row for each of x, B = 3"):
        vae.log_marginal(MODEL, PARAMS, {**BATCH, "condition": BATCH["condition"][:2]}, KEY, 4)
