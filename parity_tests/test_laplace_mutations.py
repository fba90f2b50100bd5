"""Mistakes of a Laplace approximation that its rows must notice."""

import jax
import jax.numpy as jnp
import pytest

from parity_tests.cases.laplace import (
    laplace_row,
    natural_gradient_row,
    online_laplace_row,
)
from parity_tests.engine import compare_function
from parity_tests.tolerances import MODELS


def _swapped_factors(state):
    """A and B of the square layer change places: no shape check sees it."""
    factors = dict(state.curvature.factors)
    a, b = factors["backbone/hidden_1"]
    assert a.shape == b.shape, "the mutation must be one that no shape check sees"
    factors["backbone/hidden_1"] = (b, a)
    return state._replace(curvature=state.curvature._replace(factors=factors))


def _doubled(state):
    """The curvature of a loss that is twice the negative log-likelihood (a squared error)."""
    return state._replace(curvature=jax.tree.map(lambda h: 2.0 * h, state.curvature))


def _without_prior(state):
    """The evidence without the prior's density at the mode: only an Occam factor is left."""
    squares = sum(jnp.sum((w - 0.1) ** 2) for w in jax.tree.leaves(state.mean))
    return state._replace(log_likelihood=state.log_likelihood + 0.5 * squares / 0.8**2)


def _mean_instead_of_sum(state):
    return state._replace(log_likelihood=state.log_likelihood / state.num_data)


MUTATIONS = {
    "A and B swapped": laplace_row("", "normal", "kron", (4, 5), _swapped_factors),
    "curvature of the squared error": laplace_row("", "bernoulli", "diagonal", (3,), _doubled),
    "no prior in the evidence": laplace_row("", "bernoulli", "diagonal", (3,), _without_prior),
    "mean log-likelihood": laplace_row("", "bernoulli", "diagonal", (3,), _mean_instead_of_sum),
    "old precision dropped": online_laplace_row("", "full", forget=True),
    "another step size": natural_gradient_row("", "diagonal", step_size=0.51),
}


QUICK = ("old precision dropped",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in MUTATIONS],
)
def test_mistake_is_caught(name):
    values, _ = compare_function(MUTATIONS[name], "float64")
    assert max(values.values()) > 1e3 * MODELS["value"]["float64"]
