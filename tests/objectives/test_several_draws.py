"""Estimators of bounds of several draws, by loops over their weights."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import Bernoulli
from jaxprob.objectives.estimators import reweighted_wake_sleep, vimco
from tests.objectives.test_estimators import binary, params_of, reward


def test_vimco_where_some_draws_weigh_nothing():
    """By loops over weights, not their logarithms; also where only one draw weighs anything."""
    logits = jnp.array([0.3, -0.4])
    weights = np.array([0.0, 2.5])  # of z = 0 and of z = 1

    def f(z):
        return jnp.where(z > 0.5, jnp.log(weights[1]), -jnp.inf)

    @jax.jit
    @jax.vmap
    def run(key):
        def total(logits):
            q = Bernoulli(logits=logits)
            return jnp.sum(vimco(3)(q, f, key).value)

        q = Bernoulli(logits=logits)
        z = jax.vmap(lambda k: q.sample(seed=k))(jax.random.split(key, 3))
        return *jax.value_and_grad(total)(logits), z

    value, gradient, z = run(jax.random.split(jax.random.key(0), 40))
    p, seen = 1 / (1 + np.exp(-np.asarray(logits))), set()
    for n in range(40):
        if np.any(np.sum(z[n], axis=0) == 0):  # the bound of such a row is -inf
            continue
        w, bound, expected = weights[z[n]], 0.0, np.zeros(2)
        for row in range(2):
            bound += np.log(np.mean(w[:, row]))
            seen.add(int(np.sum(z[n][:, row])))
            for s in range(3):
                others = np.delete(w[:, row], s)
                mean = np.mean([*others, np.prod(others) ** 0.5])
                baseline = np.log(mean) if mean > 0 else 0.0
                signal = np.log(np.mean(w[:, row])) - baseline
                expected[row] += signal * (z[n][s, row] - p[row])
        np.testing.assert_allclose(value[n], bound, rtol=1e-12)
        np.testing.assert_allclose(gradient[n], expected, rtol=1e-10, atol=1e-12)
    assert seen == {1, 2, 3}


def test_reweighted_wake_sleep_moves_p_up_the_bound_and_q_towards_the_posterior():
    """With the same draws: the weighted slopes of log p and of log q, each by itself."""
    params, key = params_of((3,)), jax.random.key(2)

    def log_joint(w, z):
        return reward({"w": w}, z) - 1.0

    @jax.jit
    def run(params):
        def bound(params):
            def f(z):
                return log_joint(params["w"], z) - binary(params).log_prob(z)

            return jnp.sum(reweighted_wake_sleep(4)(binary(params), f, key).value)

        q = binary(params)
        z = jax.vmap(lambda k: q.sample(seed=k))(jax.random.split(key, 4)).astype(float)
        log_w = jax.vmap(lambda one: log_joint(params["w"], one) - q.log_prob(one))(z)
        share = jax.nn.softmax(log_w, axis=0)

        def weighted(params):
            of_p = jax.vmap(lambda one: log_joint(params["w"], one))(z)
            of_q = jax.vmap(binary(params).log_prob)(z)
            return jnp.sum(share * of_p), jnp.sum(share * of_q)

        of_p, of_q = jax.jacobian(weighted)(params)
        value, gradient = jax.value_and_grad(bound)(params)
        return gradient, of_p["w"], of_q["logits"], value, log_w

    gradient, of_p, of_q, value, log_w = run(params)
    np.testing.assert_allclose(gradient["w"], of_p, rtol=1e-11)
    np.testing.assert_allclose(gradient["logits"], of_q, rtol=1e-11)
    np.testing.assert_allclose(value, np.log(np.exp(log_w).mean(0)).sum(), rtol=1e-12)
