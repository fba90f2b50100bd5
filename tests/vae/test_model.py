"""The interface: encode, decode, prior, the output; posteriors and likelihoods of several kinds."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxprob import heads, vae
from jaxprob.distributions import Gamma, Independent, Laplace, Normal
from jaxprob.nn import MLP
from tests.support.latents import drawn
from tests.vae.linear_gaussian import COVARIANCE, Decoder, Posterior, X

EPS = jax.random.normal(jax.random.key(1), (3, 5, 2))
X32 = jnp.asarray(X, jnp.float32)


def test_output_is_that_of_the_parts():
    model = vae.VAE(MLP((6,)), nn.Sequential([MLP((6,)), heads.NormalHead(4)]), 2)
    variables = {"params": drawn(model, X)}

    @jax.jit
    def run(variables):
        out = model.apply(variables, X, EPS)
        q = model.apply(variables, X, method=model.encode)
        return (
            out,
            q,
            model.apply(variables, out.z, method="decode"),
            model.apply(variables, method="prior"),
        )

    out, q, p, prior = run(variables)
    assert out._fields == ("q", "z", "p")
    assert (out.q.batch_shape, out.q.event_shape) == ((5,), (2,))
    assert out.z.shape == (3, 5, 2)
    assert (out.p.batch_shape, out.p.event_shape) == ((3, 5), (4,))
    assert (prior.batch_shape, prior.event_shape) == ((), (2,))
    expected = q.mean()[None] + q.stddev()[None] * EPS
    np.testing.assert_allclose(out.z, expected, rtol=1e-12)
    np.testing.assert_array_equal(out.p.mean(), p.mean())
    np.testing.assert_allclose(prior.log_prob(EPS), stats.norm.logpdf(EPS).sum(-1), rtol=1e-12)
    assert set(variables["params"]) == {"encoder", "posterior", "decoder"}


def test_one_draw_a_row_needs_no_leading_axis():
    out = vae.VAE(Posterior(), Decoder(), 2).apply({}, X, EPS[0])
    assert (out.z.shape, out.p.batch_shape) == ((5, 2), (5,))


def test_a_posterior_with_correlations_is_drawn_with_them():
    model = vae.VAE(Posterior(), Decoder(), 2)
    eps = jax.random.normal(jax.random.key(0), (40_000, 1, 2))
    z = jax.jit(lambda e: model.apply({}, X[:1], e).z)(eps)[:, 0]
    np.testing.assert_allclose(np.cov(z.T), COVARIANCE, atol=0.03 * COVARIANCE.max())


def test_kl_is_the_integral():
    """Of each latent, against quadrature."""
    model = vae.VAE(Posterior(1.3, factorised=True), Decoder(), 2)
    q, kl = jax.jit(lambda x: (q := model.apply({}, x, method="encode"),
                               model.apply({}, q, method="kl")))(X)  # fmt: skip
    assert kl.shape == (5, 2)
    for row, latent in ((0, 0), (3, 1)):
        ours = stats.norm(q.mean()[row, latent], q.stddev()[row, latent])
        integral, _ = integrate.quad(
            lambda z, q=ours: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)),
            *ours.interval(1 - 1e-15),
        )
        np.testing.assert_allclose(kl[row, latent], integral, rtol=1e-8)


class Other(nn.Module):
    """An encoder whose posterior is not normal."""

    family: str

    def __call__(self, x):
        if self.family == "laplace":
            return Independent(Laplace(x[:, :2], 0.5), 1)
        if self.family == "gamma":
            return Independent(Gamma(2.0 + 0.0 * x[:, :2], 1.0), 1)
        return Normal(x[:, 0], 1.0)


def test_any_posterior_that_can_be_reparameterised():
    """The Laplace distribution by its quantile function: the draw has the right distribution."""
    model = vae.VAE(Other("laplace"), Decoder(), 2)
    levels = (np.arange(600) + 0.5) / 600
    grid = np.broadcast_to(stats.norm.ppf(levels)[:, None, None], (600, 5, 2))
    out = jax.jit(lambda: model.apply({}, X, grid))()
    expected = stats.laplace(X[0, 0], 0.5).ppf(levels)
    np.testing.assert_allclose(out.z[:, 0, 0], expected, rtol=1e-9, atol=1e-9)


def test_dtype_is_that_of_the_data():
    model = vae.DenseVAE(features=4, hidden=(3,), latent_dim=2, likelihood=heads.NormalHead)

    def run(x, eps):
        params = model.init(jax.random.key(0), x[:1], eps[0, :1])["params"]
        loss = vae.negative_elbo(model)(params, {"x": x}, jax.random.key(0))
        bound = vae.negative_iwae(model, 2)(params, {"x": x}, jax.random.key(0))
        draws = vae.sample(model, params, jax.random.key(1), 2)
        return loss, bound, draws, vae.log_marginal(model, params, x, jax.random.key(0), 2)

    shapes = jax.eval_shape(run, X32, EPS.astype(jnp.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.apply({}, X, EPS[:, :, :1]), r"eps has shape \(3, 5, 1\); expected"),
        (lambda m: m.apply({}, X, EPS[:, :3]), r"eps has shape \(3, 3, 2\); expected"),
        (lambda m: m.clone(encoder=Other("normal")).apply({}, X, EPS[0, :, 0]), "q.z | x. is Norm"),
    ],
)
def test_refuses_noise_and_posteriors_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(vae.VAE(Posterior(), Decoder(), 2))


def test_refuses_data_of_another_shape():
    def loss(model):
        return vae.negative_elbo(model, analytic_kl=False)

    dense = vae.DenseVAE(features=3, hidden=(3,), latent_dim=2)
    with pytest.raises(ValueError, match=r"DenseVAE: x has shape \(5, 4\); expected \[B, 3\]"):
        dense.init(jax.random.key(0), X, EPS)
    model = vae.VAE(Posterior(), nn.Sequential([MLP((3,)), heads.NormalHead(3)]), 2)
    params = drawn(model, X)
    with pytest.raises(ValueError, match=r'batch\["x"\] has shape \(5, 4\), but p\(x'):
        jax.eval_shape(loss(model), params, {"x": X}, jax.random.key(0))
    model = vae.VAE(Posterior(), MLP((3,)), 2)
    params = drawn(model, X)
    with pytest.raises(ValueError, match="expected a distribution"):
        jax.eval_shape(loss(model), params, {"x": X}, jax.random.key(0))
