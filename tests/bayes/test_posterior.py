"""`GaussianPosterior` against SciPy, against `MultivariateNormal`, and for any Linen model."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax.traverse_util import flatten_dict

from jaxprob import bayes
from jaxprob.bayes import gaussian_block
from jaxprob.distributions import MultivariateNormal, Normal
from jaxprob.heads import NormalHead
from jaxprob.objectives import GaussianPrior, HierarchicalGaussianPrior, SpikeAndSlabPrior
from jaxprob.supervised import GaussianRegressor

KEY = jax.random.key(0)
X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 1)))
TINY = GaussianRegressor((2,), activation=nn.sigmoid)  # 4 + 6 weights
REFERENCE = GaussianRegressor((8,), activation=nn.sigmoid)  # 16 + 18 weights
DRAWS = 20_000


def spread(q):
    """Variational parameters in general position, float64."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(q.init, KEY))
    rng = np.random.default_rng(1)
    return structure.unflatten([jnp.asarray(0.6 * rng.normal(size=w.shape)) for w in leaves])


def flat(q, weights):
    """Weights of each group as the rows of one array, in the order that the docstring states."""
    leaves = flatten_dict(weights, sep="/")
    groups = {}
    for path in sorted(leaves, key=lambda path: path.split("/")):
        owner = "all" if q.covariance in ("full", "low_rank") else path.rpartition("/")[0]
        groups.setdefault(owner, []).append(leaves[path].reshape(leaves[path].shape[0], -1))
    return {name: np.concatenate(parts, axis=1) for name, parts in groups.items()}


def normals(params):
    """The posterior of each group as a `MultivariateNormal`."""
    return {
        name: MultivariateNormal(block["loc"], gaussian_block.scale_tril(block))
        for name, block in params["posterior"].items()
    }


@pytest.mark.parametrize(
    ("covariance", "sizes"),
    [
        ("diagonal", {"backbone/hidden_0": 2 * 16, "head/out": 2 * 18}),  # 68
        ("layer", {"backbone/hidden_0": 152, "head/out": 189}),  # 16 * 19 / 2 + 18 * 21 / 2 = 341
        ("full", {"all": 34 * 37 // 2}),  # 629
        ("low_rank", {"all": 34 * (2 + 10)}),
    ],
)
def test_numbers_of_parameters(covariance, sizes):
    q = bayes.GaussianPosterior(REFERENCE, X[:1], covariance)
    assert q.num_weights == 34
    posterior = jax.eval_shape(q.init, KEY)["posterior"]
    found = {n: sum(leaf.size for leaf in jax.tree.leaves(b)) for n, b in posterior.items()}
    assert found == sizes
    assert repr(q) == (
        f"GaussianPosterior(GaussianRegressor, covariance='{covariance}', 34 weights in "
        f"{len(sizes)} groups,\n  prior={GaussianPrior()})"
    )


@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_the_start_is_the_models_own_initialisation(covariance):
    q = bayes.GaussianPosterior(TINY, X[:1], covariance, init_scale=0.07)
    params = jax.jit(q.init)(KEY)
    start = jax.jit(TINY.init)(KEY, X[:1])["params"]
    chex.assert_trees_all_close(q.mean(params), start, rtol=1e-12)
    for normal in normals(params).values():
        if covariance == "low_rank":  # at zero the gradient of the directions would be zero
            ratio = normal.covariance() / 0.07**2 - np.eye(len(normal.loc))
            assert 0.005 < np.max(np.abs(ratio)) < 0.1
            continue
        np.testing.assert_allclose(normal.scale_tril, 0.07 * np.eye(len(normal.loc)), rtol=1e-6)


@pytest.mark.parametrize(
    ("covariance", "trainable"),
    [
        ("diagonal", ()),
        ("low_rank", ("loc", "scale")),
        ("layer", ("loc",)),
        ("layer", ("scale",)),
        ("full", ("loc", "scale")),
    ],
)
def test_kl_is_that_of_multivariate_normals(covariance, trainable):
    prior = GaussianPrior(scale=0.7, loc=0.2, trainable=trainable)
    q = bayes.GaussianPosterior(TINY, X[:1], covariance, prior)
    params = spread(q)
    total = 0.0
    for name, normal in normals(params).items():
        learned = params["prior"][name] if trainable else {}
        size = normal.loc.shape[0]
        assert len(learned) == len(trainable)
        loc = learned.get("loc", np.full(size, 0.2))
        scale = np.exp(learned.get("log_scale", np.log(0.7)))
        total += normal.kl_divergence(MultivariateNormal(loc, scale * np.eye(size)))
    np.testing.assert_allclose(jax.jit(q.kl)(params), total, rtol=1e-12)


@pytest.fixture(scope="module", params=["diagonal", "low_rank", "layer", "full"])
def sampled(request):
    """A posterior, its parameters, many draws with their log-ratios, and its KL."""
    prior = GaussianPrior(scale=0.7, loc=0.2)
    q = bayes.GaussianPosterior(TINY, X[:1], request.param, prior, rank=2)
    params = spread(q)

    @jax.jit
    def draw(key):
        draws = q.sample(params, key, DRAWS)
        log_q = jax.vmap(lambda w: q.log_prob(params, w))(draws)
        return draws, log_q, jax.vmap(prior.log_prob)(draws), q.kl(params)

    return q, params, draw(jax.random.key(3))


def test_kl_is_the_expectation_of_the_log_ratio(sampled):
    _, _, (_, log_q, log_prior, kl) = sampled
    ratios = np.asarray(log_q - log_prior)
    standard_error = ratios.std() / np.sqrt(DRAWS)
    assert standard_error < 0.02 * kl
    np.testing.assert_allclose(ratios.mean(), kl, rtol=0, atol=3 * standard_error)


def scale_of_one(q, prior_params):
    """Nodes and weights of the scale of a group under its log-normal posterior."""
    t, weights = np.polynomial.hermite_e.hermegauss(60)
    scales = np.exp(prior_params["log_scale"] + np.exp(prior_params["log_deviation"]) * t)
    return scales, weights / weights.sum()


def test_hierarchical_prior_is_the_average_over_its_scale():
    prior = HierarchicalGaussianPrior(0.7, 0.6, 0.2)
    q = bayes.GaussianPosterior(TINY, X[:1], "layer", prior)
    params = spread(q)
    total = 0.0
    for name, normal in normals(params).items():
        learned, size = params["prior"][name], normal.loc.shape[0]
        assert set(learned) == {"log_scale", "log_deviation"}
        for scale, weight in zip(*scale_of_one(q, learned), strict=True):
            given = MultivariateNormal(np.full(size, 0.2), scale * np.eye(size))
            total += weight * normal.kl_divergence(given)
        own = Normal(learned["log_scale"], np.exp(learned["log_deviation"]))
        total += own.kl_divergence(Normal(np.log(0.7), 0.6))
    np.testing.assert_allclose(jax.jit(q.kl)(params), total, rtol=1e-10)


def test_other_priors_are_compared_at_the_draws():
    """The mean over many draws is the integral, one weight after the other."""
    prior = SpikeAndSlabPrior(1.0, 0.2, 0.4)
    q = bayes.GaussianPosterior(TINY, X[:1], "diagonal", prior)
    params = spread(q)
    truth = 0.0
    for normal in normals(params).values():
        for loc, scale in zip(normal.loc, np.diag(normal.scale_tril), strict=True):
            one = scipy.stats.norm(float(loc), float(scale))
            w = loc + scale * np.linspace(-9, 9, 4001)
            log_prior = np.logaddexp(
                np.log(0.4) + scipy.stats.norm.logpdf(w, 0, 1.0),
                np.log(0.6) + scipy.stats.norm.logpdf(w, 0, 0.2),
            )
            truth += np.trapezoid(one.pdf(w) * (one.logpdf(w) - log_prior), w)
    draws = q.sample(params, KEY, DRAWS)
    estimate = jax.jit(q.kl)(params, draws)
    ratios = jax.vmap(lambda w: q.log_prob(params, w) - prior.log_prob(w))(draws)
    error = float(np.std(ratios) / np.sqrt(DRAWS))
    assert error < 0.02 * truth
    np.testing.assert_allclose(estimate, truth, rtol=0, atol=4 * error)
    with pytest.raises(ValueError, match="no closed form; give draws="):
        q.kl(params)


def test_draws_and_log_prob_are_those_of_the_covariance(sampled):
    q, params, (draws, log_q, _, _) = sampled
    groups, log_prob, noise = flat(q, draws), 0.0, []
    assert set(groups) == set(params["posterior"])
    for name, normal in normals(params).items():
        mean, covariance = np.asarray(normal.loc), np.asarray(normal.covariance())
        variance = np.diag(covariance)
        error = np.sqrt((np.outer(variance, variance) + covariance**2) / DRAWS)
        assert np.all(np.abs(groups[name].mean(0) - mean) < 4 * np.sqrt(variance / DRAWS))
        assert np.all(np.abs(np.cov(groups[name].T) - covariance) < 4.5 * error)
        if q.covariance != "diagonal":  # there is a correlation to be found
            assert np.max(np.abs(covariance - np.diag(variance)) / error) > 20
        noise.append(np.linalg.solve(normal.scale_tril, (groups[name] - mean).T))
        oracle = scipy.stats.multivariate_normal(mean, covariance)
        log_prob += oracle.logpdf(groups[name][:50])
    np.testing.assert_allclose(log_q[:50], log_prob, rtol=1e-9)
    # The noise of all ten weights is independent, between groups too.
    np.testing.assert_allclose(np.cov(np.concatenate(noise)), np.eye(10), atol=5 / DRAWS**0.5)


class Convolution(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Conv(2, (3,))(x)
        return NormalHead(1, name="head")(jnp.mean(nn.relu(h), axis=-2))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.ones, (), x.dtype)
        h = nn.Sequential([nn.Dense(2), nn.Sequential([nn.tanh, nn.Dense(3)])])(gain * x)
        return GaussianRegressor((2,), name="regressor")(h)


MODELS = {
    "convolution": (Convolution(), jnp.ones((2, 5, 1)), 8 + 6),
    "sequential": (nn.Sequential([nn.Dense(2), nn.tanh, NormalHead(1)]), X, 4 + 6),
    "nested": (Nested(), X, 1 + 4 + 9 + 8 + 6),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_linen_model(name):
    model, x, count = MODELS[name]
    q = bayes.GaussianPosterior(model, x[:1])
    assert q.num_weights == count
    weights = jax.eval_shape(model.init, KEY, x[:1])["params"]
    draws = jax.jit(lambda key: q.sample(q.init(key), key, 3))(KEY)
    chex.assert_trees_all_equal_structs(draws, weights)
    shapes = jax.tree.map(lambda w: jnp.zeros((3, *w.shape)), weights)
    chex.assert_trees_all_equal_shapes(draws, shapes)
    predictive = bayes.predict(model, draws, x)
    assert (predictive.batch_shape, predictive.event_shape) == ((len(x),), (1,))
    assert predictive.num_draws == 3
    assert np.all(predictive.epistemic > 0)
