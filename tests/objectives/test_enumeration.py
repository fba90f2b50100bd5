"""The exact objective: against loops over the table, and at the edges of the simplex."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob.distributions import Bernoulli, Categorical, Independent, OneHotCategorical
from jaxprob.objectives.estimators import exact_gradient, exact_objective
from tests.objectives.test_estimators import B, binary, one_hot, params_of, reward


def test_exact_objective_is_the_sum_over_the_table():
    """Against a loop over all states with probabilities from NumPy."""
    params = params_of((3,))
    p = 1 / (1 + np.exp(-np.asarray(params["logits"])))
    expected, bound = np.zeros(B), np.zeros(B)
    table = []
    for state in itertools.product([0.0, 1.0], repeat=3):
        z = np.broadcast_to(np.array(state), (B, 3))
        prob = np.prod(np.where(z == 1, p, 1 - p), axis=1)
        value = np.asarray(reward(params, jnp.asarray(z)))
        expected += prob * value
        table.append((prob, value))
    for (p1, v1), (p2, v2) in itertools.product(table, repeat=2):
        bound += p1 * p2 * np.log((np.exp(v1) + np.exp(v2)) / 2)
    f = partial(reward, params)
    np.testing.assert_allclose(exact_objective(binary(params), f), expected, rtol=1e-12)
    np.testing.assert_allclose(exact_objective(binary(params), f, 2), bound, rtol=1e-12)
    # an index instead of a vector
    q = Categorical(logits=jnp.log(jnp.array([0.2, 0.3, 0.5])))
    np.testing.assert_allclose(exact_objective(q, lambda z: z**2.0), 0.3 + 4 * 0.5, rtol=1e-12)


def test_exact_gradient_matches_finite_differences():
    params, h = params_of((2, 3)), 1e-6
    gradient = jax.jit(exact_gradient(one_hot, reward))(params)["logits"]

    @jax.jit
    def objective(shift):
        moved = {**params, "logits": params["logits"].at[1, 0, 2].add(shift)}
        return jnp.sum(exact_objective(one_hot(moved), partial(reward, moved)))

    numeric = (objective(h) - objective(-h)) / (2 * h)
    np.testing.assert_allclose(gradient[1, 0, 2], numeric, rtol=1e-7)


def at_the_edge(kind, probs):
    return Independent(kind(probs=probs), 1) if kind is Bernoulli else kind(probs=probs)


@pytest.mark.parametrize(
    ("kind", "probs"),
    [
        (Bernoulli, [[0.0, 1.0, 0.3]]),
        (Categorical, [[0.0, 0.2, 0.8]]),
        (OneHotCategorical, [[0.0, 0.0, 1.0]]),
    ],
)
def test_slopes_where_a_probability_is_0_or_1(kind, probs):
    """The derivative of the table's sum, which is a polynomial (over a sum, for classes)."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 2, 2) if kind is Bernoulli else 3)

    def f(z):
        if kind is Bernoulli:
            return jnp.asarray(values)[tuple(z.astype(int).T)]
        return z @ values if kind is OneHotCategorical else jnp.asarray(values)[z]

    objective = lambda p: jnp.sum(exact_objective(at_the_edge(kind, p), f))  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(objective))(jnp.array(probs))
    (p,) = np.asarray(probs)
    if kind is Bernoulli:
        pairs = np.stack([1 - p, p], axis=1)
        expected = np.einsum("abc,a,b,c", values, *pairs)
        slopes = [
            np.einsum("abc,a,b,c", values, *[[-1, 1] if i == d else pairs[i] for i in range(3)])
            for d in range(3)
        ]
    else:
        expected = values @ p
        slopes = values - expected  # of values.p / sum p
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient[0], slopes, rtol=1e-12)


def test_a_state_that_cannot_be_adds_nothing():
    """Not even where f is infinite; nor to the bound of two draws."""
    f = lambda z: jnp.where(z == 0, -jnp.inf, z)  # noqa: E731
    q = Categorical(probs=jnp.array([0.0, 0.25, 0.75]))
    single, of_two = jax.jit(lambda: (exact_objective(q, f), exact_objective(q, f, 2)))()
    np.testing.assert_allclose(single, 0.25 + 0.75 * 2.0, rtol=1e-12)
    table = np.array([[1.0, np.log((np.e + np.e**2) / 2)], [np.log((np.e + np.e**2) / 2), 2.0]])
    expected = np.array([0.25, 0.75]) @ table @ np.array([0.25, 0.75])
    np.testing.assert_allclose(of_two, expected, rtol=1e-12)
