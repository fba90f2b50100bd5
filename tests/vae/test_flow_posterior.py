"""Posteriors bent by a flow: their density, what they leave alone, and log p(x)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from jaxprob import heads, vae
from tests.flows.cases import compiled
from tests.support.latents import drawn, wide
from tests.vae.linear_gaussian import X

KEY = jax.random.key(0)
EPS = jax.random.normal(KEY, (2, 5, 2))


def model_of(flow, latent_dim=2):
    """A small model with this flow, and params with which it bends."""
    model = vae.FlowPosteriorVAE(
        4, (5,), latent_dim, likelihood=heads.NormalHead, flow=flow, num_layers=2, flow_hidden=(4,)
    )
    return model, drawn(model, X)


@pytest.mark.parametrize("flow", ["planar", "iaf", "coupling"])
def test_density_is_that_of_the_jacobian(flow):
    """Log q(z | x) = log N(u) - log |det dz/du|, by autodiff; of draws, and of any codes."""
    model, params = model_of(flow)
    variables = {"params": params}

    @compiled
    def run():
        out = model.apply(variables, X, EPS)
        slopes = jax.jacfwd(lambda e: model.apply(variables, X, e).z)(EPS)
        drawn_here, _ = model.apply(variables, out, method="log_densities_of_draws")
        anywhere, log_p = model.apply(variables, out.q, out.z, method="log_densities")
        blocks = jnp.einsum("sbisbj->sbij", slopes)  # each draw depends on its own noise alone
        return out.z, blocks, drawn_here, anywhere, log_p

    z, blocks, drawn_here, anywhere, log_p = map(np.asarray, run())
    expected = stats.norm.logpdf(EPS).sum(-1) - np.linalg.slogdet(blocks)[1]
    np.testing.assert_allclose(drawn_here[..., 0], expected, rtol=1e-10)
    np.testing.assert_allclose(anywhere[..., 0], expected, rtol=1e-9)
    np.testing.assert_allclose(log_p[..., 0], stats.norm.logpdf(z).sum(-1), rtol=1e-12)
    correlated = np.abs(blocks[..., 0, 1]) + np.abs(blocks[..., 1, 0])
    assert np.max(correlated) > 1e-3, "the flow bends"


def test_a_flow_that_bends_nothing_is_a_dense_vae():
    model, params = model_of("iaf")
    straight = {**params, "transform": jax.tree.map(jnp.zeros_like, params["transform"])}
    dense = vae.DenseVAE(4, (5,), 2, likelihood=heads.NormalHead)
    shared = {name: value for name, value in params.items() if name != "transform"}

    @compiled
    def run():
        return [
            (
                vae.negative_elbo(m, analytic_kl=False)(p, {"x": X}, KEY),
                vae.negative_iwae(m, 3)(p, {"x": X}, KEY),
                m.apply({"params": p}, X, method="code"),
            )
            for m, p in ((model, straight), (dense, shared))
        ]

    bent, plain = run()
    for a, b in zip(jax.tree.leaves(bent), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_log_marginal_is_the_integral():
    """Over one latent; the posterior has no part in it."""
    model, params = model_of("coupling", 1)
    params = wide(params, 2.0)
    grid = np.linspace(-9.0, 9.0, 2001)
    z = jnp.broadcast_to(grid[:, None, None], (2001, 5, 1))

    @compiled
    def run():
        likelihood = model.apply({"params": params}, z, method="decode").log_prob(X)
        return likelihood, vae.log_marginal(model, params, X, KEY, 4000, 2000)

    likelihood, estimate = run()
    joint = np.asarray(likelihood) + stats.norm.logpdf(grid)[:, None]
    truth = logsumexp(joint, axis=0) + np.log(grid[1] - grid[0])
    assert np.all(estimate.standard_error < 0.1)
    assert np.all(np.abs(estimate.value - truth) < 4.5 * estimate.standard_error)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, p: vae.negative_elbo(m)(p, {"x": X}, KEY), NotImplementedError, "analytic_kl=F"),
        (lambda m, p: m.apply({"params": p}, X[:, :3], EPS), ValueError, r"expected \[B, 4\]"),
        (lambda m, p: m.clone(flow="iab").apply({"params": p}, X, EPS), ValueError, "got 'iab'"),
    ],
)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda: call(*model_of("iaf")))
