"""RELAX: what its control variate learns, and that it moves nothing else."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.distributions import Bernoulli, Independent, OneHotCategorical
from jaxprob.objectives.estimators import exact_gradient, relax, score_function
from tests.objectives.test_estimators import B, binary, params_of, reward

KEYS = 5000


def features(w, z):
    """Linear and quadratic in the relaxed draws: enough for the reward's main part."""
    squares = z[:, :, None] * z[:, None]
    return z @ w["linear"] + squares.reshape(B, -1) @ w["square"]


@pytest.mark.slow
def test_a_learned_control_variate_lowers_the_variance():
    """Trained by the slope of single squared estimates; measured against the exact gradient."""
    params = params_of((3,))
    f = partial(reward, params)
    start = {"linear": jnp.zeros(3), "square": jnp.zeros(9)}
    estimator = relax(0.5, 0.0, 2)

    def estimate(w, logits, key):
        return estimator(binary({"logits": logits}), f, key, baseline=partial(features, w))

    def gradients(w, keys):
        def total(logits, key):
            return jnp.sum(estimate(w, logits, key).value)

        return jax.vmap(jax.grad(total), (None, 0))(params["logits"], keys)

    @jax.jit
    def run(keys):
        def step(w, key):
            def squared(w):
                return jnp.sum(estimate(w, params["logits"], key).baseline_loss)

            slope = jax.grad(squared)(w)
            return jax.tree.map(lambda a, g: a - 0.02 * g, w, slope), None

        trained, _ = jax.lax.scan(step, start, jax.random.split(jax.random.key(5), 2000))

        def plain(logits, key):
            q = binary({"logits": logits})
            return jnp.sum(score_function(num_samples=2)(q, f, key).value)

        scores = jax.vmap(jax.grad(plain), (None, 0))(params["logits"], keys)
        one = estimate(trained, params["logits"], keys[0])
        return gradients(start, keys), gradients(trained, keys), scores, one

    keys = jax.random.split(jax.random.key(6), KEYS)
    before, after, scores, one = run(keys)
    exact = jax.jit(exact_gradient(binary, reward))(params)["logits"]
    spread = {
        name: float(np.sum(np.var(g, 0)))
        for name, g in {"r = 0": before, "r": after, "score": scores}.items()
    }
    print(spread)
    assert spread["r"] < 0.5 * spread["score"]
    np.testing.assert_allclose(spread["r = 0"], spread["score"], rtol=0.1)
    error = np.abs(after.mean(0) - exact)
    assert np.all(error <= 4.0 * after.std(0) / np.sqrt(KEYS))
    # what is minimised is the square of what is returned
    np.testing.assert_allclose(one.baseline_loss, np.sum(after[0] ** 2, -1), rtol=1e-12)


def test_a_control_variate_is_moved_by_its_own_loss_alone():
    params, key = params_of((3,)), jax.random.key(0)
    start = {"linear": jnp.ones(3), "square": jnp.linspace(-1.0, 1.0, 9)}

    @jax.jit
    def parts(params, w):
        learned = partial(features, w)
        estimate = relax(0.5, 0.7, 2)(
            binary(params), partial(reward, params), key, baseline=learned
        )
        return jnp.stack([jnp.sum(estimate.value), jnp.sum(estimate.baseline_loss)])

    of_params, of_control = jax.jit(jax.jacobian(parts, (0, 1)))(params, start)
    assert np.any(of_params["logits"][0] != 0.0)
    for leaf in jax.tree.leaves(of_params):
        assert np.all(leaf[1] == 0.0)
    for name, leaf in of_control.items():
        assert np.all(leaf[0] == 0.0)
        ahead, behind = (
            parts(params, {**start, name: start[name].at[1].add(h)})[1] for h in (1e-5, -1e-5)
        )
        np.testing.assert_allclose(leaf[1][1], (ahead - behind) / 2e-5, rtol=1e-7)


def test_a_control_with_an_axis_too_many_is_refused():
    """It would be summed over all pairs of rows."""
    q = Independent(Bernoulli(logits=jnp.zeros((3, 2))), 1)
    with pytest.raises(ValueError, match=r"has shape \(3, 1\); expected that of a row"):
        relax()(
            q,
            lambda z: jnp.sum(z, -1),
            jax.random.key(0),
            baseline=lambda z: jnp.sum(z, -1, keepdims=True),
        )


@pytest.mark.parametrize("family", [OneHotCategorical, Bernoulli])
def test_classes_that_are_never_drawn_are_left_alone(family):
    logits = jnp.array([[[0.0, 1.0, -jnp.inf]]])

    def f(z):
        return jnp.sum(z.reshape(1, 3) * jnp.arange(3.0)[None], -1)

    def value(logits):
        q = Independent(family(logits=logits), 1 if family is OneHotCategorical else 2)
        return jnp.sum(relax()(q, f, jax.random.key(0), baseline=f).value)

    found, slope = jax.jit(jax.value_and_grad(value))(logits)
    assert np.isfinite(found)
    assert np.all(np.isfinite(slope))
    assert slope[0, 0, 2] == 0.0
