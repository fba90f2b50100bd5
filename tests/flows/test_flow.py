"""Whole flows: densities that integrate to one, draws, conditions, vmap over parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxprob import flows
from tests.flows.cases import BUILDERS, CONDITION, B, C, D, Z, compiled, drawn


def rows(*quick):
    """All builders, those that are not named here as longer proofs."""
    return [pytest.param(n, marks=[] if n in quick else [pytest.mark.slow]) for n in BUILDERS]


@pytest.mark.parametrize("name", rows("spline_coupling"))
def test_density_draws_and_members(name):
    """It integrates to one; draws carry their density; members under vmap are as alone."""
    model = BUILDERS[name](2)
    variables = drawn(model, Z[:, :2], size=0.3)
    doubled = jax.tree.map(lambda leaf: 2.0 * leaf, variables)
    members = jax.tree.map(lambda *leaves: jnp.stack(leaves), variables, doubled)
    points, half_width = 241, 12.0
    axis = np.linspace(-half_width, half_width, points)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)

    @compiled
    def run(members, key):
        draw = lambda v: model.apply(v, key, (B,), method="sample_and_log_prob")  # noqa: E731
        x, log_q = jax.vmap(draw)(members)
        return x, log_q, model.apply(variables, jnp.concatenate([x[0], grid]))

    x, log_q, log_prob = run(members, jax.random.key(1))
    total = np.exp(np.asarray(log_prob[B:])).sum() * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1.0, atol=2e-4)
    np.testing.assert_allclose(log_q[0], log_prob[:B], rtol=1e-10)
    assert np.abs(np.asarray(x[1] - x[0])).max() > 0.1
    assert x.dtype == "float64"


@pytest.mark.parametrize("name", rows("inverse_autoregressive"))
def test_starts_as_the_base_in_its_units(name):
    model = BUILDERS[name](D)
    run = compiled(model.init_with_output)
    found, variables = run(jax.random.key(0), Z.astype("float32"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    mean = 0.5 if name == "inverse_autoregressive" else 0.0
    std = 1.5 if name == "spline_coupling" else 1.0
    expected = stats.norm(mean, std).logpdf(Z).sum(-1)
    # A planar map with u = 0 is the identity too.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", rows("coupling"))
def test_condition(name):
    """Each row has a density of its own, and many draws share the rows of one condition."""
    model = BUILDERS[name](D)
    variables = drawn(model, Z, CONDITION, size=0.4)

    @compiled
    def run(x, condition, key):
        drawn, log_q = model.apply(variables, key, (7,), condition, method="sample_and_log_prob")
        return (
            drawn,
            log_q,
            model.apply(variables, drawn, condition),
            model.apply(variables, x, condition),
        )

    x, log_q, again, rows = run(Z, CONDITION, jax.random.key(0))
    assert x.shape == (7, B, D)
    assert log_q.shape == (7, B)
    np.testing.assert_allclose(again, log_q, rtol=1e-9)
    moved = CONDITION.copy()
    moved[2] += 1.0
    _, _, _, other = run(Z, moved, jax.random.key(0))
    changed = np.asarray(other != rows)
    assert changed.tolist() == [False, False, True, False, False]


def test_one_number_given_a_condition():
    """D = 1: the couplings are made by the condition alone."""
    for build in (flows.coupling, flows.masked_autoregressive):
        model = build(1, num_layers=2, hidden=(4,))
        variables = drawn(model, Z[:, :1], CONDITION, size=0.3)
        axis = np.linspace(-12.0, 12.0, 2001)
        points = np.broadcast_to(axis[:, None, None], (2001, B, 1))
        density = np.exp(compiled(model.apply)(variables, points, CONDITION))
        np.testing.assert_allclose(np.trapezoid(density, axis, axis=0), 1.0, atol=1e-4)
        assert np.ptp(density, axis=1).max() > 0.1


def test_linear_flow_is_a_normal_distribution():
    """SciPy's multivariate normal, with the matrix L U of the parameters."""
    model = flows.Flow(D, (flows.LULinear(D), flows.Permutation((2, 0, 1))))
    variables = drawn(model, Z)
    p = variables["params"]["transforms_0"]
    left, right = np.eye(D), np.diag(np.exp(3.0 * np.tanh(p["log_diagonal"] / 3.0)))
    left[np.tril_indices(D, -1)], right[np.triu_indices(D, 1)] = p["lower"], p["upper"]
    matrix, bias = (left @ right)[[2, 0, 1]], p["bias"][[2, 0, 1]]
    expected = stats.multivariate_normal(bias, matrix @ matrix.T).logpdf(Z)
    np.testing.assert_allclose(model.apply(variables, Z), expected, rtol=1e-10)


def test_a_number_of_draws_is_one_axis():
    model, key = flows.Flow(D, (flows.Permutation((2, 0, 1)),)), jax.random.key(0)
    drawn = [model.apply({}, key, shape, method="sample") for shape in (5, (5,))]
    assert drawn[0].shape == (5, D)
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, v: m.apply(v, Z[:, :2]), r"x has shape \(5, 2\); expected events of size 3"),
        (
            lambda m, v: m.apply(v, Z, CONDITION[:3]),
            r"condition has batch axes \(3,\); expected the last ones of x",
        ),
        (
            lambda m, v: m.apply(v, Z[0], CONDITION),
            r"condition has batch axes \(5,\); .* batch axes are \(\)",
        ),
        (lambda m, v: flows.coupling(0), "coupling: features must be at least 1; got 0"),
        (lambda m, v: flows.planar(2, 0), "planar: num_layers must be at least 1; got 0"),
        (
            lambda m, v: flows.coupling(2, 2, std=-1.0),
            "coupling: std must be positive and finite; got -1.0",
        ),
    ],
)
def test_errors(call, message):
    model = flows.coupling(D, 1, (4,))
    variables = drawn(model, Z, CONDITION)
    assert CONDITION.shape == (B, C)
    with pytest.raises(ValueError, match=message):
        call(model, variables)
