"""Masked layers: who may see whom, through any depth, in any order, with a condition."""

import jax
import numpy as np
import pytest

from jaxprob import nn
from jaxprob.training.mixed_precision import in_precision
from tests.support.layers import drawn

X, CONDITION = np.random.default_rng(0).normal(size=(2, 4))


@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
@pytest.mark.parametrize("hidden", [(), (4,), (9, 6, 8)])
@pytest.mark.parametrize("condition", [None, CONDITION[:2]], ids=["plain", "condition"])
def test_an_output_sees_all_inputs_before_it_and_no_other(order, hidden, condition):
    made = nn.MADE(4, hidden, 2, order, jax.numpy.tanh)
    variables = drawn(made, X, condition)
    run = jax.jit(jax.jacfwd(lambda *a: made.apply(variables, *a), argnums=(0, 1)))
    arguments = (X, np.zeros(0) if condition is None else condition)
    if condition is None:
        jacobian = np.asarray(jax.jit(jax.jacfwd(lambda x: made.apply(variables, x)))(X))
    else:
        jacobian, of_condition = (np.asarray(j) for j in run(*arguments))
        assert (of_condition != 0.0).all()
    chain = list(range(4) if order is None else order)
    seen = (jacobian != 0.0)[chain][:, :, chain]
    expected = np.tril(np.ones((4, 4), bool), -1)[:, None, :]
    assert (seen == expected).all()


def test_narrow_layers_keep_the_direction():
    """Fewer units than inputs: nothing is seen that must not be, and the last output sees most."""
    made = nn.MADE(6, (2, 3), activation=jax.numpy.tanh)
    x = np.random.default_rng(1).normal(size=6)
    variables = drawn(made, x)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda x: made.apply(variables, x)))(x))[:, 0]
    assert (np.triu(jacobian) == 0.0).all()
    assert (jacobian[-1] != 0.0).sum() >= 3


def test_zero_output_and_masked_weights():
    x = X[None]
    made = nn.MADE(4, (5,), 3, zero_output=True)
    variables = jax.jit(made.init)(jax.random.key(0), x)
    assert variables["params"]["hidden_0"]["weight"].any()
    assert (np.asarray(made.apply(variables, x)) == 0.0).all()
    layer, mask = nn.MaskedDense(2), np.array([[True, False], [True, True]])
    params = {"weight": np.array([[2.0, 5.0], [3.0, 4.0]]), "bias": np.array([0.5, -1.0])}
    out = layer.apply({"params": params}, np.array([[10.0, 100.0]]), mask)
    np.testing.assert_array_equal(out, [[20.5, 429.0]])


def test_contracts_in_a_short_float_where_training_asks_for_it():
    made = nn.MADE(4, (5,))
    params = jax.tree.map(jax.numpy.float32, drawn(made, X))["params"]

    def loss(params, batch, key):
        return jax.numpy.sum(made.apply({"params": params}, batch["x"])), {}

    arguments = (params, {"x": jax.numpy.float32(X)}, jax.random.key(0))
    (short, _), (full, _) = (f(*arguments) for f in (in_precision(loss, "bfloat16"), loss))
    assert short.dtype == full.dtype == "float32"
    assert 0 < abs(short - full) < 0.05 * abs(full)


def test_errors():
    with pytest.raises(ValueError, match="x has 4 features; expected features=3"):
        drawn(nn.MADE(3), X)
    with pytest.raises(ValueError, match=r"order must list each of 0..3 once; got \(0, 1, 2, 2\)"):
        drawn(nn.MADE(4, order=(0, 1, 2, 2)), X)
