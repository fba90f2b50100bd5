"""distrax's and TFP's distributions become ours: same density, same shapes, through every door."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from tensorflow_probability.substrates.jax import bijectors as tfb
from tensorflow_probability.substrates.jax import distributions as tfd

from jaxprob import bayes, interop, objectives, training, vae
from jaxprob import distributions as jd
from jaxprob.distributions.convert import _FORMULAS

TRIL = np.array([[1.0, 0.0], [0.5, 2.0]], np.float32)
COVARIANCE = TRIL @ TRIL.T
TWO = jnp.zeros(2, jnp.float32)
F = jnp.float32
THEIRS = [
    distrax.Normal(F(0.0), F(2.0)),
    distrax.LogStddevNormal(F(0.0), F(0.2)),
    distrax.Beta(F(2.0), F(3.0)),
    distrax.Bernoulli(probs=jnp.array([0.1, 0.0], F)),
    distrax.Categorical(logits=jnp.array([1.0, 2.0, 3.0], F)),
    distrax.Categorical(probs=jnp.array([0.1, 0.9, 0.0], F)),
    distrax.Deterministic(F(2.0)),
    distrax.Dirichlet(jnp.array([1.0, 2.0], F)),
    distrax.Gamma(F(2.0), F(3.0)),
    distrax.Gumbel(F(0.0), F(1.0)),
    distrax.Laplace(F(0.0), F(1.0)),
    distrax.Logistic(F(0.0), F(1.0)),
    distrax.VonMises(F(0.0), F(2.0)),
    distrax.Uniform(F(0.0), F(2.0)),
    distrax.Independent(distrax.Normal(TWO, TWO + 1.0), 1),
    distrax.MultivariateNormalDiag(TWO, TWO + 1.0),
    distrax.MultivariateNormalTri(TWO, TRIL),
    distrax.MultivariateNormalFullCovariance(TWO, COVARIANCE),
    distrax.MultivariateNormalDiagPlusLowRank(TWO, TWO + 1.0, jnp.ones((2, 1), F)),
    distrax.Multinomial(5, probs=jnp.array([0.2, 0.8], F)),
    distrax.OneHotCategorical(logits=jnp.array([1.0, 2.0], F)),
    distrax.Quantized(distrax.Normal(F(0.0), F(3.0)), F(-5.0), F(5.0)),
    distrax.Transformed(distrax.Normal(F(0.0), F(1.0)), distrax.ScalarAffine(F(1.0), F(2.0))),
    distrax.MixtureSameFamily(
        distrax.Categorical(logits=TWO), distrax.Normal(jnp.array([0.0, 1.0], F), TWO + 1.0)
    ),
    distrax.MixtureOfTwo(0.3, distrax.Normal(F(0.0), F(1.0)), distrax.Normal(F(2.0), F(1.0))),
    distrax.EpsilonGreedy(jnp.array([1.0, 2.0, 3.0], F), 0.1),
    distrax.Softmax(jnp.array([1.0, 2.0], F), 2.0),
    distrax.Independent(tfd.Normal(TWO, TWO + 1.0), 1),
    distrax.Transformed(tfd.Normal(F(0.0), F(1.0)), distrax.ScalarAffine(F(1.0), F(2.0))),
    distrax.as_distribution(tfd.Categorical(logits=TWO)),
    tfd.Normal(F(0.0), F(2.0)),
    tfd.StudentT(F(3.0), F(0.0), F(1.0)),
    tfd.Cauchy(F(0.0), F(1.0)),
    tfd.Gamma(F(2.0), log_rate=F(0.3)),
    tfd.InverseGamma(F(2.0), F(0.5)),
    tfd.Exponential(F(2.0)),
    tfd.HalfNormal(F(2.0)),
    tfd.LogNormal(F(0.0), F(1.0)),
    tfd.Weibull(F(2.0), F(3.0)),
    tfd.Poisson(log_rate=F(0.3)),
    tfd.NegativeBinomial(F(3.0), logits=F(0.3)),
    tfd.Binomial(F(5.0), probs=F(0.3)),
    tfd.Geometric(probs=F(0.3)),
    tfd.Bernoulli(F(0.3)),
    tfd.Categorical(jnp.array([0.3, 0.1], F)),
    tfd.OneHotCategorical(jnp.array([0.3, 0.1], F)),
    tfd.Multinomial(F(5.0), jnp.array([0.3, 0.1], F)),
    tfd.Dirichlet(jnp.array([1.0, 2.0], F)),
    tfd.RelaxedBernoulli(F(0.5), F(0.3)),
    tfd.RelaxedOneHotCategorical(F(0.5), jnp.array([0.3, 0.1], F)),
    tfd.MultivariateNormalDiag(TWO, TWO + 2.0),
    tfd.MultivariateNormalTriL(TWO, TRIL),
    tfd.MultivariateNormalFullCovariance(TWO, COVARIANCE),
    tfd.Independent(tfd.Normal(TWO, TWO + 1.0), 1),
    tfd.MixtureSameFamily(tfd.Categorical(TWO), tfd.Normal(TWO, TWO + 1.0)),
    tfd.Deterministic(F(1.0)),
    tfd.VonMises(F(0.0), F(2.0)),
    tfd.Uniform(F(0.0), F(2.0)),
    tfd.Beta(F(2.0), F(3.0)),
    tfd.Laplace(F(0.0), F(1.0)),
    tfd.Logistic(F(0.0), F(1.0)),
    tfd.Gumbel(F(0.0), F(1.0)),
    tfd.TransformedDistribution(tfd.Normal(F(0.0), F(1.0)), tfb.Exp()),
]


@pytest.mark.parametrize(
    "theirs", THEIRS, ids=lambda d: f"{type(d).__module__.partition('.')[0]}-{type(d).__name__}"
)
def test_the_density_and_the_shapes_stay(theirs):
    ours = jd.convert(theirs)
    assert isinstance(ours, jd.Distribution)
    assert ours.batch_shape == tuple(theirs.batch_shape)
    assert ours.event_shape == tuple(theirs.event_shape)
    draws = ours.sample(seed=jax.random.key(0), sample_shape=3)
    given = draws if isinstance(theirs, distrax.Distribution) else draws.astype(theirs.dtype)
    with jax.numpy_rank_promotion("allow"):
        right = theirs.log_prob(given)
    np.testing.assert_allclose(ours.log_prob(draws), right, atol=1e-4)


def test_every_class_of_the_table_is_tried():
    tried = {type(d) for d in THEIRS}
    ours = {kind for kind in _FORMULAS if kind.__module__.startswith("jaxprob")}
    assert set(_FORMULAS) - ours <= tried


def test_what_is_refused_says_what_to_do():
    with pytest.raises(ValueError, match=r"tensorflow_probability's Pareto .*check_distribution"):
        jd.convert(tfd.Pareto(1.0, 2.0))
    with pytest.raises(ValueError, match=r"distrax's Joint has no counterpart"):
        jd.convert(distrax.Joint([distrax.Normal(0.0, 1.0)]))
    with pytest.raises(ValueError, match=r"mixture of Normal and Laplace is not of one family"):
        jd.convert(distrax.MixtureOfTwo(0.3, distrax.Normal(0.0, 1.0), distrax.Laplace(0.0, 1.0)))
    with pytest.raises(TypeError, match=r"got float; expected a distribution"):
        jd.convert(3.0)


def test_ours_and_a_users_own_class_are_left_alone():
    class Mine(distrax.Normal):
        pass

    mine, ours = Mine(0.0, 1.0), jd.Normal(0.0, 1.0)
    assert jd.convert(mine) is mine
    assert jd.convert(ours) is ours
    mixed = jd.convert(jd.Independent(distrax.Normal(TWO, TWO + 1.0), 1))
    assert isinstance(mixed.distribution, jd.Normal)


def test_divergences_take_them_on_either_side():
    ours = jd.MultivariateNormal(jnp.zeros(2), COVARIANCE * 0 + jnp.eye(2))
    theirs = distrax.MultivariateNormalDiag(jnp.ones(2), jnp.ones(2))
    np.testing.assert_allclose(ours.kl_divergence(theirs), 1.0, rtol=1e-6)
    independent = jd.Independent(jd.Normal(jnp.ones(2), 1.0), 1)
    np.testing.assert_allclose(independent.kl_divergence(ours), 1.0, rtol=1e-6)
    np.testing.assert_allclose(ours.kl_divergence(independent), 1.0, rtol=1e-6)
    poisson = jd.Independent(jd.Poisson(jnp.ones(2)), 1)
    with pytest.raises(NotImplementedError, match="monte_carlo_kl"):
        poisson.kl_divergence(ours)


class Net(nn.Module):
    """A user's module that knows distrax alone."""

    kind: str = "distrax"

    @nn.compact
    def __call__(self, x):
        """Returns a plain distrax or TFP distribution."""
        out = nn.Dense(2)(nn.tanh(nn.Dense(4)(x)))
        loc, scale = out[..., :1], nn.softplus(out[..., 1:]) + 1e-3
        if self.kind == "distrax":
            return distrax.Independent(distrax.Normal(loc, scale), 1)
        return tfd.Independent(tfd.Normal(loc, scale), 1)


class OurNet(Net):
    """The same with our own classes."""

    @nn.compact
    def __call__(self, x):
        """Returns a distribution of this package."""
        out = nn.Dense(2)(nn.tanh(nn.Dense(4)(x)))
        return jd.Independent(jd.Normal(out[..., :1], nn.softplus(out[..., 1:]) + 1e-3), 1)


@pytest.mark.parametrize("kind", ["distrax", "tfp"])
def test_a_model_of_theirs_gives_what_a_model_of_ours_gives(kind):
    x = jnp.linspace(-1.0, 1.0, 12).reshape(12, 1)
    data = {"x": x, "y": x**3}
    draws = {}
    for name, model in (("theirs", Net(kind)), ("ours", OurNet())):
        q = bayes.GaussianPosterior(model, x[:1])
        fitted = training.fit(
            bayes.negative_elbo(q, num_data=12, num_samples=3),
            q.init(jax.random.key(0)),
            data,
            optimizer=optax.adam(1e-2),
            steps=5,
            key=jax.random.key(1),
            progress=False,
        )
        draws[name] = q.sample(fitted.params, jax.random.key(2), num_draws=4)
    theirs, ours = (
        bayes.predict(model, draws[name], x)
        for name, model in (("theirs", Net(kind)), ("ours", OurNet()))
    )
    np.testing.assert_allclose(theirs.mean(), ours.mean(), rtol=1e-12)
    np.testing.assert_allclose(theirs.interval(0.9), ours.interval(0.9), rtol=1e-9)
    chunks = bayes.predict(Net(kind), draws["theirs"], x, chunk_size=5)
    np.testing.assert_allclose(chunks.mean(), ours.mean(), rtol=1e-12)


def test_a_loss_takes_their_distribution_under_vmap():
    x = jnp.linspace(-1.0, 1.0, 6).reshape(6, 1)
    members = jax.vmap(lambda k: Net().init(k, x)["params"])(jax.random.split(jax.random.key(0), 3))

    def losses(model):
        loss = objectives.negative_log_likelihood(model)
        batch, key = {"x": x, "y": x}, jax.random.key(1)
        return jax.vmap(lambda p: loss(p, batch, key)[0])(members)

    np.testing.assert_allclose(losses(Net()), losses(OurNet()), rtol=1e-12)


def test_an_autoencoder_of_their_distributions():
    class Encoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.Dense(4)(x)
            return distrax.MultivariateNormalDiag(h[..., :2], nn.softplus(h[..., 2:]) + 0.1)

    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, z):
            return distrax.Independent(distrax.Bernoulli(logits=nn.Dense(3)(z)), 1)

    x = jnp.array([[0, 1, 1], [1, 0, 1]])
    model = vae.VAE(Encoder(), Decoder(), latent_dim=2)
    params = model.init(jax.random.key(0), x, jnp.zeros((2, 2)))["params"]
    with jax.numpy_rank_promotion("allow"):
        loss, metrics = jax.jit(vae.negative_elbo(model))(params, {"x": x}, jax.random.key(1))
        q = model.apply({"params": params}, x, method="encode")
        right = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
        np.testing.assert_allclose(metrics["kl"], jnp.mean(q.kl_divergence(right)), rtol=1e-6)
    assert np.isfinite(loss)
    draws = vae.sample(model, params, jax.random.key(2), 3)
    assert draws.shape == (3, 3)


def test_parity_takes_them_apart():
    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.Dense_0, self.Dense_1 = torch.nn.Linear(4, 2), torch.nn.Linear(1, 4)

        def forward(self, x):
            out = self.Dense_0(torch.tanh(self.Dense_1(x)))
            scale = torch.nn.functional.softplus(out[..., 1:]) + 1e-3
            return torch.distributions.Independent(
                torch.distributions.Normal(out[..., :1], scale), 1
            )

    x = np.linspace(-1.0, 1.0, 6).reshape(6, 1)
    with jax.numpy_rank_promotion("allow"):
        report = interop.check_parity(Net(), Twin(), {"x": x, "y": x})
    report.require(value=1e-12, grad=1e-11)
