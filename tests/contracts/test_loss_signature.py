"""Law 3: every loss is `loss_fn(params, batch, key) -> (loss, metrics)`, per row of data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import bayes, objectives, supervised
from jaxprob.objectives import GaussianPrior

N = 6
BATCH = {"x": jnp.linspace(-1.0, 1.0, N)[:, None], "y": jnp.linspace(0.0, 1.0, N)[:, None]}
MODEL = supervised.GaussianRegressor((4,))


def _posterior(covariance, trainable=()):
    q = bayes.GaussianPosterior(
        MODEL, BATCH["x"][:1], covariance=covariance, prior=GaussianPrior(trainable=trainable)
    )
    return bayes.negative_elbo(q, num_data=N), q.init(jax.random.key(0))


def _layers():
    model = bayes.BayesianMLP((4,))
    params = bayes.VariationalLayers(model).init(jax.random.key(0), BATCH["x"])
    return bayes.negative_elbo(model, num_data=N), params


LOSSES = {
    "negative_log_likelihood": lambda: (
        objectives.negative_log_likelihood(MODEL),
        MODEL.init(jax.random.key(0), BATCH["x"])["params"],
    ),
    "negative_elbo diagonal": lambda: _posterior("diagonal"),
    "negative_elbo layer": lambda: _posterior("layer", ("loc", "scale")),
    "negative_elbo full": lambda: _posterior("full"),
    "negative_elbo of layers": _layers,
}


@pytest.fixture(params=LOSSES, ids=str)
def case(request):
    loss_fn, params = LOSSES[request.param]()
    return loss_fn, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)


def test_returns_a_scalar_and_scalar_metrics(case):
    loss_fn, params = case
    loss, metrics = loss_fn(params, BATCH, jax.random.key(1))
    assert loss.shape == ()
    assert "nll" in metrics
    assert all(value.shape == () for value in metrics.values())


def test_is_a_function_of_its_arguments_alone(case):
    loss_fn, params = case
    first = loss_fn(params, BATCH, jax.random.key(1))
    assert first == loss_fn(params, BATCH, jax.random.key(1))
    np.testing.assert_allclose(
        jax.jit(loss_fn)(params, BATCH, jax.random.key(1))[0], first[0], rtol=1e-12
    )


def test_vmaps_over_params_and_keys(case):
    loss_fn, params = case
    members = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.1]), params)
    keys = jax.random.split(jax.random.key(2), 2)
    together, _ = jax.vmap(loss_fn, in_axes=(0, None, 0))(members, BATCH, keys)
    for i in range(2):
        alone, _ = loss_fn(jax.tree.map(lambda leaf, i=i: leaf[i], members), BATCH, keys[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-11)


def test_does_not_depend_on_the_order_of_the_rows(case):
    loss_fn, params = case
    turned = jax.tree.map(lambda a: a[::-1], BATCH)
    key = jax.random.key(1)
    np.testing.assert_allclose(
        loss_fn(params, turned, key)[0], loss_fn(params, BATCH, key)[0], rtol=1e-12
    )


def test_a_row_of_weight_zero_does_not_count(case):
    """Law 7 for rows: padding changes neither the loss nor its gradient."""
    loss_fn, params = case
    key = jax.random.key(1)
    grad_fn = jax.jit(jax.value_and_grad(lambda *args: loss_fn(*args)[0]))
    padded = {name: jnp.concatenate([a, 7.0 + a[:2]]) for name, a in BATCH.items()}
    padded["weight"] = jnp.concatenate([jnp.ones(N), jnp.zeros(2)])
    value, gradient = grad_fn(params, BATCH, key)
    padded_value, padded_gradient = grad_fn(params, padded, key)
    np.testing.assert_allclose(padded_value, value, rtol=1e-12)
    for a, b in zip(jax.tree.leaves(padded_gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", ["y", "weight"])
def test_refuses_what_would_broadcast_silently(case, bad):
    loss_fn, params = case
    batch = {**BATCH, bad: jnp.ones(N + 1) if bad == "weight" else BATCH["y"][:, 0]}
    with pytest.raises(ValueError, match=rf'batch\["{bad}"\] has shape'):
        loss_fn(params, batch, jax.random.key(1))
