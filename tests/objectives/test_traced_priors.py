"""Priors whose numbers are traced: under vmap, jit and grad as they are with plain numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import bayes, heads, objectives
from jaxprob.nn import MLP

SCALES = jnp.asarray([0.5, 1.0, 2.0])
WEIGHTS = {"w": jnp.asarray([1.0, -2.0, 0.3])}
X = np.random.default_rng(0).normal(size=(6, 2))
BATCH = {"x": jnp.asarray(X), "y": jnp.asarray(X[:, :1] ** 2)}
KEY = jax.random.key(0)
MODEL = nn.Sequential([MLP((2,)), heads.NormalHead()])


def hierarchical(scale):
    """What a hierarchical prior contributes to a bound, with another start than its own."""
    prior = objectives.HierarchicalGaussianPrior(scale, 0.7 * scale, 0.1 * scale)
    learned = {"log_scale": jnp.asarray(0.2), "log_deviation": jnp.asarray(-0.5)}
    start = sum(jax.tree.leaves(prior.init(3, jnp.float64)))
    return prior.own_kl(learned) + sum(prior.moments(learned)) + start


PARAMS = jax.tree.map(lambda w: jnp.asarray(w, float), MODEL.init(KEY, X)["params"])
FUNCTIONS = {
    "Gaussian": lambda s: objectives.GaussianPrior(s, 0.1 * s).log_prob(WEIGHTS),
    "Laplace": lambda s: objectives.LaplacePrior(s, 0.1 * s).log_prob(WEIGHTS),
    "slab": lambda s: objectives.SpikeAndSlabPrior(s, 0.05 * s).log_prob(WEIGHTS),
    "share": lambda s: objectives.SpikeAndSlabPrior(2.0, 0.1, 0.3 * s).log_prob(WEIGHTS),
    "horseshoe": lambda s: objectives.HorseshoePrior(s).log_prob(WEIGHTS),
    "hierarchical": hierarchical,
    "weight decay": lambda s: objectives.prior_for_weight_decay(s, 9).log_prob(WEIGHTS),
    "decay of a prior": lambda s: objectives.weight_decay_for_prior(
        objectives.GaussianPrior(s), 9
    ) + 0.0 * s,
    "L1": lambda s: objectives.prior_for_l1(s, 9).log_prob(WEIGHTS),
    "map_loss": lambda s: objectives.map_loss(MODEL, objectives.GaussianPrior(s), 6)(
        PARAMS, BATCH, KEY
    )[0],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_and_grad_over_the_numbers_of_a_prior(name):
    function = FUNCTIONS[name]
    alone = [float(function(float(s))) for s in SCALES]
    np.testing.assert_allclose(jax.vmap(function)(SCALES), alone, rtol=1e-12)
    slope = jax.grad(function)(1.3)
    step = 1e-5
    numeric = (float(function(1.3 + step)) - float(function(1.3 - step))) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("covariance", ["diagonal", pytest.param("full", marks=pytest.mark.slow)])
def test_bounds_have_a_slope_in_the_scale_of_the_prior(covariance):
    size = bayes.GaussianPosterior(heads.NormalHead(), X[:1]).num_weights

    def kl(scale):
        prior = objectives.GaussianPrior(scale)
        q = bayes.GaussianPosterior(heads.NormalHead(), X[:1], covariance, prior)
        other = bayes.GaussianPosterior(heads.NormalHead(), X[:1], covariance)
        return other.kl(bayes.prior_params(q)) + q.kl(bayes.prior_params(other))

    # the sum of both divergences between N(0, s^2) and N(0, 1) is (s^2 + s^-2) / 2 - 1 a weight
    expected = size * ((1.3**2 + 1.3**-2) / 2 - 1)
    np.testing.assert_allclose(jax.jit(kl)(1.3), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(kl)(1.3), size * (1.3 - 1.3**-3), rtol=1e-5)


def test_layers_with_a_traced_prior_have_a_bound_and_predict():
    start = bayes.VariationalLayers(bayes.BayesianMLP((), covariance="diagonal")).init(KEY, X)

    def both(scale):
        prior = objectives.GaussianPrior(scale)
        model = bayes.BayesianMLP((), covariance="diagonal", prior=prior)
        loss, metrics = bayes.negative_elbo(model, 6)(start, BATCH, KEY)
        draws = bayes.VariationalLayers(model).sample(start, KEY, 2)
        return loss, metrics["kl"], jnp.sum(bayes.predict(model, draws, X).mean())

    losses, kls, means = jax.jit(jax.vmap(both))(SCALES)
    block = start["dense_0"]
    expected = [bayes.gaussian_block.kl_to_prior(block, 0.0, s**-2, np.log(s)) for s in SCALES]
    np.testing.assert_allclose(kls, expected, rtol=1e-5)
    np.testing.assert_allclose(losses[1:] - losses[:-1], np.diff(kls) / 6, rtol=1e-4)
    np.testing.assert_array_equal(means, np.broadcast_to(means[0], (3,)))


@pytest.mark.parametrize(
    "structure",
    [
        "kron",
        "last_layer",
        *[pytest.param(s, marks=pytest.mark.slow) for s in ("full", "diagonal")],
    ],
)
def test_laplace_after_a_trace_and_under_one(structure):
    """The same layout whatever was traced before; the evidence has a slope in the prior's scale."""
    traced = nn.Sequential([MLP((2,)), heads.NormalHead()])
    jax.eval_shape(traced.init, KEY, X[:1])
    jax.jit(traced.apply)({"params": PARAMS}, X)

    def evidence(scale, model=traced):
        laplace = bayes.Laplace(model, X[:1], structure, objectives.GaussianPrior(scale))
        state, _ = laplace._fitted(PARAMS, BATCH)
        at_one = laplace._fitted(PARAMS, BATCH)[0]._replace(prior_scale=jnp.ones(()))
        return laplace.log_marginal_likelihood(state), laplace.log_marginal_likelihood(
            at_one, scale
        )

    (values, slopes) = jax.jit(lambda s: (evidence(s), jax.jacfwd(evidence)(s)))(0.8)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-9)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-9)
    fresh = nn.Sequential([MLP((2,)), heads.NormalHead()])
    layouts = [bayes.Laplace(model, X[:1], structure).layout for model in (traced, fresh)]
    assert layouts[0] == layouts[1]
