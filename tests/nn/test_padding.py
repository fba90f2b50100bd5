"""Law 7: padding never changes an answer, gradients included, whatever stands in it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import nn
from tests.support.layers import drawn

B, T, D, H = 3, 4, 2, 3
LENGTHS = np.array([2, 4, 0])
RNG = np.random.default_rng(1)
X = RNG.normal(size=(B, T, D))
VALID = np.arange(T)[None] < LENGTHS[:, None]
# as hostile as padding gets: what is not zero, and what survives no arithmetic
PADDINGS = {"zeros": 0.0, "large": 1e3, "NaN": np.nan}
LAYERS = {
    "RNN": nn.RNN(H, num_layers=2, bidirectional=True, nonlinearity="relu"),
    "GRU": nn.GRU(H, num_layers=2, bidirectional=True),
    "LSTM": nn.LSTM(H, num_layers=2, bidirectional=True),
}


def padded_with(value):
    return np.where(VALID[..., None], X, value)


# The scan is one for all three: two of them can wait.
@pytest.fixture(
    scope="module",
    params=["GRU", *(pytest.param(name, marks=pytest.mark.slow) for name in ("RNN", "LSTM"))],
)
def network(request):
    """Params, first states, and a jitted loss of one's chosen rows, with outputs and gradients."""
    layer = LAYERS[request.param]
    first = RNG.normal(size=(4, B, H))
    initial = (first, first + 1) if request.param == "LSTM" else first
    params = drawn(layer, X)["params"]

    def loss(params, x, initial, lengths, rows):
        outputs, final = layer.apply({"params": params}, x, initial, lengths)
        total = jnp.sum(rows[:, None, None] * outputs**2)
        total += sum(jnp.sum(rows[None, :, None] * leaf**3) for leaf in jax.tree.leaves(final))
        return total, (outputs, final)

    value_and_grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    return params, initial, value_and_grad


def test_padding_is_never_read(network):
    params, initial, value_and_grad = network
    rows = np.ones(B)
    expected = value_and_grad(params, padded_with(0.0), initial, LENGTHS, rows)
    for value in PADDINGS.values():
        found = value_and_grad(params, padded_with(value), initial, LENGTHS, rows)
        chex.assert_trees_all_equal(found, expected)
    outputs, inputs = np.asarray(expected[0][1][0]), np.asarray(expected[1][1])
    assert (outputs[~VALID] == 0).all()
    assert (inputs[~VALID] == 0).all()
    assert (inputs[VALID] != 0).all()


def test_a_sequence_as_if_alone(network):
    """Values and all gradients of a loss of row 0, in the padded batch and cut to its length."""
    params, initial, value_and_grad = network
    (loss, (outputs, final)), (weights, inputs, states) = value_and_grad(
        params, padded_with(np.nan), initial, LENGTHS, np.array([1.0, 0.0, 0.0])
    )
    own = jax.tree.map(lambda leaf: leaf[:, :1], initial)
    alone = value_and_grad(params, X[:1, :2], own, None, np.ones(1))
    outputs, inputs, final, states = jax.tree.map(np.asarray, (outputs, inputs, final, states))
    row_0 = jax.tree.map(lambda leaf: leaf[:, :1], (final, states))
    in_batch = (loss, (outputs[:1, :2], row_0[0])), (weights, inputs[:1, :2], row_0[1])
    chex.assert_trees_all_close(in_batch, alone, rtol=1e-10, atol=1e-13)
    assert (inputs[1:] == 0).all()


def test_a_sequence_without_steps_keeps_its_first_state(network):
    params, initial, value_and_grad = network
    (_, (_, final)), (weights, _, _) = value_and_grad(
        params, padded_with(np.nan), initial, LENGTHS, np.array([0.0, 0.0, 1.0])
    )
    kept = jax.tree.map(lambda leaf: np.asarray(leaf)[:, 2], (final, initial))
    chex.assert_trees_all_equal(*kept)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(weights))


def test_full_lengths_and_no_first_state_are_the_defaults():
    layer, x, zeros = nn.LSTM(H), X, np.zeros((1, B, H))

    @jax.jit
    def run(params):
        full = jnp.full(B, T)
        return layer.apply(params, x), layer.apply(params, x, (zeros, zeros), full)

    chex.assert_trees_all_close(*run(drawn(layer, x)), rtol=1e-12)


@pytest.fixture(scope="module")
def attention():
    layer = nn.MultiheadAttention(4, 2)
    x = RNG.normal(size=(B, T, 4))
    params = drawn(layer, x)["params"]
    mask = VALID[:, None, None, :]

    def loss(params, query, key):
        out = layer.apply({"params": params}, query, key, mask=mask)
        return jnp.sum(out**2), out

    return layer, params, x, jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


def test_closed_keys_are_never_read(attention):
    layer, params, x, value_and_grad = attention
    expected = value_and_grad(params, x, np.where(VALID[..., None], x, 0.0))
    for value in PADDINGS.values():
        found = value_and_grad(params, x, np.where(VALID[..., None], x, value))
        chex.assert_trees_all_equal(found, expected)
    out, keys = np.asarray(expected[0][1]), np.asarray(expected[1][2])
    np.testing.assert_array_equal(keys[~VALID], 0)
    alone = jax.jit(layer.apply)({"params": params}, x[:1], x[:1, :2])
    np.testing.assert_allclose(out[:1], alone, rtol=1e-12)


def test_a_query_that_may_look_nowhere(attention):
    """Its output is the bias, and every gradient is finite."""
    _, params, x, value_and_grad = attention
    (_, out), gradients = value_and_grad(params, x, x)
    out, gradients = jax.tree.map(np.asarray, (out, gradients))
    np.testing.assert_allclose(out[2], np.broadcast_to(params["out_proj"]["bias"], (T, 4)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    np.testing.assert_array_equal(gradients[1][2], 0)


def test_causal_attention_does_not_look_ahead():
    layer, before = nn.MultiheadAttention(4, 2), np.tril(np.ones((T, T), bool))
    x = RNG.normal(size=(T, 4))
    params = drawn(layer, x)
    jacobian = jax.jit(jax.jacobian(lambda x: layer.apply(params, x, mask=before)))
    reach = np.abs(np.asarray(jacobian(x))).sum((1, 3))
    np.testing.assert_array_equal(reach > 0, before)
