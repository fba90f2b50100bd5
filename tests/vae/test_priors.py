"""Learned priors: log p(z) by hand, log p(x) by quadrature, draws."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logsumexp

from jaxprob import heads, vae
from jaxprob.heads.links import SCALE_FLOOR
from tests.flows.cases import compiled
from tests.support.latents import drawn, wide
from tests.vae.linear_gaussian import X

KEY = jax.random.key(0)
Z = np.random.default_rng(0).normal(size=(7, 1, 2))
MIXED = vae.DenseVAE(4, (5,), 1, likelihood=heads.NormalHead, prior_model=vae.MixturePrior(3))
VAMP = vae.DenseVAE(
    4, (5,), 2, likelihood=heads.NormalHead, prior_model=vae.VampPrior((4,), 3, nn.sigmoid)
)


def test_vamp_prior_is_the_mean_of_posteriors():
    params = drawn(VAMP, X)
    inputs = expit(np.asarray(params["prior_model"]["pseudo_inputs"]))

    @compiled
    def run():
        q = VAMP.apply({"params": params}, inputs, method="encode").marginal()
        return q.loc, q.scale, VAMP.apply({"params": params}, method="prior").log_prob(Z[:, 0])

    loc, scale, log_p = map(np.asarray, run())
    parts = stats.norm.logpdf(Z, loc[None], scale[None]).sum(-1)
    np.testing.assert_allclose(log_p, logsumexp(parts, axis=-1) - np.log(3), rtol=1e-12)


@pytest.fixture(scope="module")
def mixed():
    """Params; log p(z) and log p(x | z) on a grid; log p(x); draws; one program."""
    params = wide(drawn(MIXED, X), 2.0)
    grid = np.linspace(-12.0, 12.0, 2401)
    z = jnp.broadcast_to(grid[:, None, None], (2401, 5, 1))

    @compiled
    def run():
        variables = {"params": params}
        return {
            "log p": MIXED.apply(variables, method="prior").log_prob(z[:, 0]),
            "likelihood": MIXED.apply(variables, z, method="decode").log_prob(X),
            "marginal": vae.log_marginal(MIXED, params, X, KEY, 8000, 4000),
            "draws": MIXED.apply(variables, KEY, 20_000, method="sample_prior"),
            "iwae": vae.negative_iwae(MIXED, 1)(params, {"x": X}, KEY),
            "elbo": vae.negative_elbo(MIXED, analytic_kl=False)(params, {"x": X}, KEY),
        }

    return params["prior_model"], grid, jax.tree.map(np.asarray, run())


def test_mixture_prior_by_hand(mixed):
    params, grid, found = mixed
    scale = np.log1p(np.exp(params["raw_scale"])) + SCALE_FLOOR
    parts = stats.norm.logpdf(grid[:, None, None], params["loc"][None], scale[None]).sum(-1)
    logits = np.asarray(params["logits"])
    expected = logsumexp(parts + logits - logsumexp(logits), axis=-1)
    np.testing.assert_allclose(found["log p"], expected, rtol=1e-12)


def test_log_marginal_is_the_integral(mixed):
    _, grid, found = mixed
    joint = found["likelihood"] + found["log p"][:, None]
    truth = logsumexp(joint, axis=0) + np.log(grid[1] - grid[0])
    estimate = found["marginal"]
    assert np.all(estimate.standard_error < 0.2)
    assert np.all(np.abs(estimate.value - truth) < 4.5 * estimate.standard_error)


def test_draws_have_the_moments_of_the_mixture(mixed):
    _, grid, found = mixed
    weights = np.exp(found["log p"]) * (grid[1] - grid[0])
    mean, square = np.sum(weights * grid), np.sum(weights * grid**2)
    draws = found["draws"][:, 0]
    np.testing.assert_allclose(draws.mean(), mean, atol=4 * draws.std() / 141)
    np.testing.assert_allclose(np.mean(draws**2), square, rtol=0.05)


def test_one_draw_of_the_elbo_is_that_of_importance_sampling(mixed):
    _, _, found = mixed
    np.testing.assert_allclose(found["elbo"][0], found["iwae"][0], rtol=1e-12)


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (vae.MixturePrior(0), ValueError, "MixturePrior: num_components must be at least 1; got 0"),
        (vae.VampPrior((4,), 0), ValueError, "VampPrior: num_components must be at least 1; got 0"),
        (vae.VampPrior((3,), 2), ValueError, r"x has shape \(2, 3\); expected \[B, 4\]"),
        (vae.MixturePrior(2), NotImplementedError, "analytic_kl=False"),
    ],
)
def test_refuses(prior, error, message):
    model = vae.DenseVAE(4, (5,), 2, likelihood=heads.NormalHead, prior_model=prior)
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: vae.negative_elbo(model)(drawn(model, X), {"x": X}, KEY))


def test_a_mixture_of_flows_is_refused():
    prior = vae.VampPrior((4,), 2)
    model = vae.FlowPosteriorVAE(4, (5,), 2, likelihood=heads.NormalHead, prior_model=prior)
    with pytest.raises(ValueError, match="Use MixturePrior with this model"):
        drawn(model, X)
