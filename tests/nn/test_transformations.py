"""Law 8 for the layers: jit and vmap never change an answer, and the second call traces nothing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import nn
from tests.nn.parameters import drawn

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape))


LENGTHS = jnp.array([4, 0, 2])
SEQUENCES = normal(2, 3, 4, 3)
MASK = jnp.tril(jnp.ones((4, 4), bool))

# name -> (layer, arguments with a leading axis of two members, options)
LAYERS = {
    "Linear": (nn.Linear(2), (normal(2, 5, 3),), {}),
    "Conv": (nn.Conv(4, (3,), 2, 1, groups=2), (normal(2, 3, 6, 4),), {}),
    "ConvTranspose": (nn.ConvTranspose(4, (3,), 2, 1, 1, groups=2), (normal(2, 3, 4, 2),), {}),
    "Embedding": (nn.Embedding(5, 3), (jnp.array([[0, 4], [2, 2]]),), {}),
    "LayerNorm": (nn.LayerNorm(), (normal(2, 5, 3),), {}),
    "GroupNorm": (nn.GroupNorm(2), (normal(2, 5, 3, 4),), {}),
    "RMSNorm": (nn.RMSNorm(), (normal(2, 5, 3),), {}),
    "BatchNorm": (nn.BatchNorm(), (normal(2, 5, 3),), {"train": True}),
    "GRU": (nn.GRU(2, bidirectional=True), (SEQUENCES, None, jnp.stack([LENGTHS] * 2)), {}),
    "LSTM": (nn.LSTM(2), (SEQUENCES,), {}),
    "MultiheadAttention": (
        nn.MultiheadAttention(4, 2),
        (normal(2, 3, 4, 4), None, None, jnp.stack([MASK, MASK.T])),
        {},
    ),
    "Flatten": (nn.Flatten(), (normal(2, 3, 4, 2),), {}),
    "Dropout": (nn.Dropout(0.4), (normal(2, 3, 4), jax.random.split(jax.random.key(0))), {}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_jit_and_vmap(name):
    layer, arguments, options = LAYERS[name]
    of_member = [jax.tree.map(lambda leaf, i=i: leaf[i], arguments) for i in range(2)]
    first = drawn(layer, *of_member[0], **options)
    variables = [first, jax.tree.map(lambda leaf: 2 * leaf, first)]

    traces = []

    def run(variables, arguments):
        traces.append(1)
        return layer.apply(variables, *arguments, **options, mutable=["batch_stats"])

    jitted = jax.jit(run)
    alone = [jitted(*pair) for pair in zip(variables, of_member, strict=True)]
    assert len(traces) == 1
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *variables)
    together = jax.jit(jax.vmap(run))(stacked, arguments)
    chex.assert_trees_all_close(run(variables[0], of_member[0]), alone[0], rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(
        together, jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone), rtol=1e-12, atol=1e-14
    )
