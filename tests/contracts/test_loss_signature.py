"""Law 3: every loss is `loss_fn(params, batch, key) -> (loss, metrics)`, per row of data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import bayes, flows, heads, objectives, supervised, vae
from jaxprob.nn import as_params
from jaxprob.objectives import GaussianPrior
from jaxprob.objectives.estimators import enumerated

N = 6
BATCH = {"x": jnp.linspace(-1.0, 1.0, N)[:, None], "y": jnp.linspace(0.0, 1.0, N)[:, None]}
MODEL = supervised.GaussianRegressor((4,))
EXPERTS = vae.MixtureOfExperts([heads.NormalHead() for _ in range(2)])


def _posterior(covariance, trainable=()):
    q = bayes.GaussianPosterior(
        MODEL, BATCH["x"][:1], covariance=covariance, prior=GaussianPrior(trainable=trainable)
    )
    return bayes.negative_elbo(q, num_data=N), q.init(jax.random.key(0))


def _layers():
    model = bayes.BayesianMLP((4,))
    params = bayes.VariationalLayers(model).init(jax.random.key(0), BATCH["x"])
    return bayes.negative_elbo(model, num_data=N), params


def _ensemble(model):
    ensemble = bayes.DeepEnsemble(model, BATCH["x"][:1], 2)
    return ensemble.loss(adversarial=0.01, prior=GaussianPrior(), num_data=N)


FLOW = flows.coupling(1, 2, (4,))
QUANTILES = heads.QuantileHead((0.1, 0.5, 0.9))


def _discrete_vae():
    """By enumeration: a draw for each row would differ in another order of the rows."""
    model = vae.DiscreteVAE(nn.Dense(3), heads.NormalHead(1), 2)
    params = model.init(jax.random.key(0), BATCH["x"], jax.random.key(0))["params"]
    return vae.negative_discrete_elbo(model, enumerated()), params


def _vq_vae():
    model = vae.VQVAE(nn.Dense(2), heads.NormalHead(1), 3, 2)
    return vae.vq_loss(model), as_params(model.init(jax.random.key(0), BATCH["x"]))


def _latent_classes():
    """Its inputs are classes: the signs of ours."""
    model = vae.LatentClassModel(2, (2,))
    loss_fn = vae.negative_log_marginal(model)

    def of_signs(params, batch, key):
        return loss_fn(params, {**batch, "x": (batch["x"] > 0.0) * 1}, key)

    return of_signs, model.init(jax.random.key(0))["params"]


def _with(make):
    return lambda: (make(MODEL), MODEL.init(jax.random.key(0), BATCH["x"])["params"])


def _vae(make):
    model = vae.DenseVAE(1, (4,), 2, likelihood=heads.NormalHead)
    return lambda: (
        make(model),
        model.init(jax.random.key(0), BATCH["x"], jnp.zeros((N, 2)))["params"],
    )


GENERATIVE = {
    "negative_elbo of a VAE": _vae(lambda model: vae.negative_elbo(model, num_samples=2)),
    "negative_iwae": _vae(lambda model: vae.negative_iwae(model, 3, "doubly_reparameterized")),
}
"""Losses of "x" alone, each row of which has noise of its own."""

LOSSES = {
    **GENERATIVE,
    "map_loss": _with(lambda model: objectives.map_loss(model, GaussianPrior(), N)),
    "beta_nll": _with(objectives.beta_nll),
    "pinball_loss": lambda: (
        objectives.pinball_loss(QUANTILES),
        QUANTILES.init(jax.random.key(0), BATCH["x"])["params"],
    ),
    "negative_log_likelihood": lambda: (
        objectives.negative_log_likelihood(MODEL),
        MODEL.init(jax.random.key(0), BATCH["x"])["params"],
    ),
    "flow of y given x": lambda: (
        flows.negative_log_likelihood(FLOW, event="y", condition="x"),
        FLOW.init(jax.random.key(0), BATCH["y"], BATCH["x"])["params"],
    ),
    "negative_elbo diagonal": lambda: _posterior("diagonal"),
    "negative_elbo layer": lambda: _posterior("layer", ("loc", "scale")),
    "negative_elbo full": lambda: _posterior("full"),
    "negative_elbo of layers": _layers,
    "adversarial ensemble": _with(lambda model: _ensemble(model)),
    "discrete VAE": _discrete_vae,
    "VQ-VAE": _vq_vae,
    "latent classes": _latent_classes,
    "mixture of experts": lambda: (
        objectives.negative_log_likelihood(EXPERTS),
        EXPERTS.init(jax.random.key(0), BATCH["x"])["params"],
    ),
}
WITHOUT_TARGETS = {"discrete VAE", "VQ-VAE", "latent classes"}
"""Losses that have no batch["y"]."""


class Case(NamedTuple):
    """A loss, itself and compiled, with params."""

    name: str
    loss_fn: Callable
    compiled: Callable
    value_and_grad: Callable
    params: Any


@pytest.fixture(scope="module", params=LOSSES, ids=str)
def case(request):
    """Compiled once for all tests; the params are drawn without compiling an initialiser."""
    rng = np.random.default_rng(0)
    made = []

    def make():
        loss_fn, params = LOSSES[request.param]()
        made.append(loss_fn)
        return params

    shapes = jax.eval_shape(make)
    loss_fn = made[0]
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0.0, 0.3, leaf.shape)), shapes)
    compiled = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
    return Case(request.param, loss_fn, lambda *args: compiled(*args)[0], compiled, params)


def test_returns_a_scalar_and_scalar_metrics(case):
    loss, metrics = jax.eval_shape(case.loss_fn, case.params, BATCH, jax.random.key(1))
    assert loss.shape == ()
    assert "nll" in metrics
    metrics.pop("collections", None)
    assert all(value.shape == () for value in metrics.values())


def test_is_a_function_of_its_arguments_alone(case):
    first = case.compiled(case.params, BATCH, jax.random.key(1))
    chex.assert_trees_all_equal(first, case.compiled(case.params, BATCH, jax.random.key(1)))


def test_is_the_same_compiled_and_not():
    loss_fn, params = LOSSES["negative_log_likelihood"]()
    alone = loss_fn(params, BATCH, jax.random.key(1))[0]
    compiled = jax.jit(loss_fn)(params, BATCH, jax.random.key(1))[0]
    np.testing.assert_allclose(compiled, alone, rtol=1e-6)


def test_vmaps_over_params_and_keys(case):
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), case.params)
    keys = jax.random.split(jax.random.key(2), 2)
    vmapped = jax.jit(jax.vmap(case.loss_fn, in_axes=(0, None, 0)))
    together, _ = vmapped(members, BATCH, keys)
    for i in range(2):
        alone, _ = case.compiled(jax.tree.map(lambda leaf, i=i: leaf[i], members), BATCH, keys[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-11)


def test_does_not_depend_on_the_order_of_the_rows(case):
    if case.name in GENERATIVE:
        pytest.skip("the noise of a row is that of its place")
    turned = jax.tree.map(lambda a: a[::-1], BATCH)
    key = jax.random.key(1)
    np.testing.assert_allclose(
        case.compiled(case.params, turned, key)[0],
        case.compiled(case.params, BATCH, key)[0],
        rtol=1e-12,
    )


def test_a_row_of_weight_zero_does_not_count(case):
    """Law 7 for rows: padding changes neither the loss nor its gradient.

    With a prior the rows of weight 0 are rows of the data: the likelihood's part is that of the
    others, divided by all of them.
    """
    key = jax.random.key(1)
    padded = {name: jnp.concatenate([a, 7.0 + a[:2]]) for name, a in BATCH.items()}
    padded["weight"] = jnp.concatenate([jnp.ones(N), jnp.zeros(2)])
    (value, _), gradient = case.value_and_grad(case.params, BATCH, key)
    (padded_value, _), padded_gradient = case.value_and_grad(case.params, padded, key)
    if getattr(case.loss_fn, "average", None) == "rows":
        nothing = {**BATCH, "weight": jnp.zeros(N)}
        (of_prior, _), gradient_of_prior = case.value_and_grad(case.params, nothing, key)
        value = of_prior + N / (N + 2) * (value - of_prior)
        gradient = jax.tree.map(
            lambda prior, both: prior + N / (N + 2) * (both - prior), gradient_of_prior, gradient
        )
    np.testing.assert_allclose(padded_value, value, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(padded_gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", ["y", "weight"])
def test_refuses_what_would_broadcast_silently(case, bad):
    if bad == "y" and case.name in WITHOUT_TARGETS:
        pytest.skip("has no targets")
    if bad == "y" and case.name in GENERATIVE:
        bad = "x"
    batch = {**BATCH, bad: jnp.ones(N + 1) if bad == "weight" else BATCH[bad][:, 0]}
    message = r"x has shape \(6,\)" if bad == "x" else rf'batch\["{bad}"\] has shape'
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(case.loss_fn, case.params, batch, jax.random.key(1))
