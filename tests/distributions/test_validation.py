"""Bad input gets the error of law 10, eagerly and inside jit; it never gives a number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import checked, unchecked
from jaxprob.distributions import (
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Predictive,
)
from tests.contracts.cases import B, independent, mixture, multivariate_normal, normal

ONES = jnp.ones(3)
# case -> (call, words that the message must hold: the argument, what is wrong, what came)
BAD_VALUES = {
    "negative scale": (lambda: Normal(0.0, -1.0), ("scale", "positive", "-1.0", "softplus")),
    "zero scale": (lambda: Normal(0.0, 0.0), ("scale", "positive", "0.0")),
    "one bad of many": (
        lambda: Normal(ONES, jnp.array([1.0, -2.0, -3.0])),
        ("scale", "2 of 3", "(1,)", "-2.0"),
    ),
    "NaN scale": (lambda: Normal(0.0, jnp.nan), ("scale", "positive", "nan")),
    "NaN loc": (lambda: Normal(jnp.array([0.0, jnp.nan]), 1.0), ("loc", "NaN", "(1,)")),
    "singular factor": (
        lambda: MultivariateNormal(jnp.zeros(2), jnp.zeros((2, 2))),
        ("scale_tril", "positive diagonal", "cholesky"),
    ),
    "upper factor": (
        lambda: MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.0, 1.0]])),
        ("scale_tril", "lower triangular"),
    ),
    "NaN event": (lambda: normal(0.0).log_prob(jnp.full(B, jnp.nan)), ("value", "NaN", "3 of 3")),
}
BAD_SHAPES = {
    "scales do not broadcast": (
        lambda: Normal(jnp.zeros(3), jnp.ones(2)),
        ("loc (3,)", "scale (2,)", "broadcast"),
    ),
    "factor of another size": (
        lambda: MultivariateNormal(jnp.zeros(3), jnp.eye(2)),
        ("(3,)", "(2, 2)", "scale_tril"),
    ),
    "scalar factor": (lambda: MultivariateNormal(jnp.zeros(1), 1.0), ("scale_tril", "[..., D, D]")),
    "event of another size": (
        lambda: multivariate_normal(0.0).log_prob(jnp.ones((B, 3))),
        ("(3, 3)", "event_shape (2,)"),
    ),
    "event axis missing": (
        lambda: Independent(Normal(jnp.ones((5, 1)), 1.0), 1).log_prob(jnp.ones(5)),
        ("(5,)", "(5, 1)", "value[..., None]"),
    ),
    "batch of another size": (lambda: independent(0.0).log_prob(jnp.ones((7, 2))), ("(7, 2)",)),
    "weights for other components": (
        lambda: MixtureSameFamily(mixture(0.0).mixture_distribution, Normal(jnp.ones((B, 2)), 1.0)),
        ("(3, 4)", "(3, 2)", "components last"),
    ),
    "no draws": (lambda: Predictive(Normal(0.0, 1.0)), ("components", "posterior draws")),
    "no distribution": (lambda: Predictive(jnp.ones(3)), ("components", "head")),
    "complex loc": (lambda: Normal(1j, 1.0), ("loc", "complex", "real")),
    "bool scale": (lambda: Normal(0.0, True), ("scale", "bool")),
    "level above 1": (lambda: normal(0.0).interval(90), ("level", "90", "0.9")),
    "level 0": (lambda: normal(0.0).interval(0.0), ("level",)),
}


@pytest.mark.parametrize("name", {**BAD_VALUES, **BAD_SHAPES})
def test_message_names_argument_constraint_and_fix(name):
    call, words = {**BAD_VALUES, **BAD_SHAPES}[name]
    with pytest.raises(ValueError, match=".") as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def scaled(scale):
    return Normal(0.0, scale).log_prob(jnp.ones(3))


BAD, GOOD = jnp.array([1.0, -2.0, 3.0]), jnp.array([1.0, 2.0, 3.0])
WRAPPED = {
    "plain": scaled,
    "jit": jax.jit(scaled),
    "vmap": lambda s: jax.vmap(lambda v: Normal(0.0, v).log_prob(1.0))(s),
    "grad": lambda s: jax.grad(lambda v: jnp.sum(scaled(v)))(s),
    "scan": lambda s: jax.lax.scan(lambda c, v: (c + Normal(0.0, v).log_prob(1.0), None), 0.0, s)[
        0
    ],
    "jit of jit": jax.jit(jax.jit(scaled)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_checked_finds_bad_values_in_compiled_code(name):
    with pytest.raises(ValueError, match=r"scale must be positive.*-2\.0.*softplus"):
        checked(WRAPPED[name])(BAD)
    np.testing.assert_allclose(checked(WRAPPED[name])(GOOD), WRAPPED[name](GOOD), rtol=1e-12)


def test_checked_finds_what_a_cached_trace_would_hide():
    """A function that was jitted and called before must not be replayed without its checks."""
    fn = jax.jit(scaled)
    assert np.isnan(fn(BAD)[1])
    with pytest.raises(ValueError, match="scale must be positive"):
        checked(fn)(BAD)
    assert np.isnan(fn(BAD)[1])  # and outside it is again the function that it was


def test_checked_covers_events_and_matrices():
    with pytest.raises(ValueError, match=r"value must be a real number.*nan"):
        checked(lambda v: normal(0.0).log_prob(v))(jnp.array([0.0, jnp.nan, 1.0]))
    with pytest.raises(ValueError, match="scale_tril must be lower triangular"):
        checked(lambda m: MultivariateNormal(jnp.zeros(2), m).loc)(jnp.ones((2, 2)))


def test_checked_compiles_once():
    traces = []

    @checked
    def fn(scale):
        traces.append(1)
        return scaled(scale)

    fn(GOOD)
    fn(2 * GOOD)
    assert len(traces) == 1


def test_unchecked_turns_value_checks_off_but_not_shapes():
    with unchecked():
        assert np.isnan(Normal(0.0, -1.0).entropy())
        with pytest.raises(ValueError, match="broadcast"):
            Normal(jnp.zeros(3), jnp.ones(2))
    with pytest.raises(ValueError, match="positive"):
        Normal(0.0, -1.0)


def test_shapes_are_checked_while_tracing():
    with pytest.raises(ValueError, match="event_shape"):
        jax.jit(lambda v: multivariate_normal(0.0).log_prob(v))(jnp.ones((B, 3)))


def test_predict_refuses_a_distribution_with_hidden_axes():
    """Parameters that do not carry the batch cannot have an axis moved."""
    import distrax

    with pytest.raises(ValueError, match="does not carry the batch shape"):
        Predictive(distrax.Normal(jnp.zeros((4, 3)), 1.0))
