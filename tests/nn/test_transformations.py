"""Law 8 for the layers: jit and vmap never change an answer, and the second call traces nothing."""

import chex
import jax
import numpy as np
import pytest

from jaxprob import nn
from tests.support.layers import drawn

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


LENGTHS = np.array([[4, 0, 2], [1, 3, 4]])
MASK = np.tril(np.ones((4, 4), bool))


class Masked(nn.MultiheadAttention):
    """Attention whose mask is an array like the others, not an option of the call."""

    def __call__(self, query, key, value, mask):
        return super().__call__(query, key, value, mask=mask)


# name -> (layer, arguments with a leading axis of two members, options)
LAYERS = {
    "Linear": (nn.Linear(2), (normal(2, 5, 3),), {}),
    "Conv": (nn.Conv(4, (3,), 2, 1, groups=2), (normal(2, 3, 6, 4),), {}),
    "ConvTranspose": (nn.ConvTranspose(4, (3,), 2, 1, 1, groups=2), (normal(2, 3, 4, 2),), {}),
    "Embedding": (nn.Embedding(5, 3), (np.array([[0, 4], [2, 2]]),), {}),
    "LayerNorm": (nn.LayerNorm(), (normal(2, 5, 3),), {}),
    "GroupNorm": (nn.GroupNorm(2), (normal(2, 5, 3, 4),), {}),
    "RMSNorm": (nn.RMSNorm(), (normal(2, 5, 3),), {}),
    "BatchNorm": (nn.BatchNorm(), (normal(2, 5, 3),), {"train": True}),
    "RNN": (nn.RNN(2), (normal(2, 3, 4, 3),), {}),
    "GRU": (nn.GRU(2), (normal(2, 3, 4, 3), None, LENGTHS), {}),
    "LSTM": (nn.LSTM(2, bidirectional=True), (normal(2, 3, 4, 3),), {}),
    "MultiheadAttention": (
        Masked(4, 2),
        (normal(2, 3, 4, 4), None, None, np.stack([MASK, MASK.T])),
        {},
    ),
    "Flatten": (nn.Flatten(), (normal(2, 3, 4, 2),), {}),
    "Dropout": (nn.Dropout(0.4), (normal(2, 3, 4), jax.random.split(jax.random.key(0))), {}),
}
SLOW = ("RNN", "LSTM")


def names(slow):
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in LAYERS]


def members(name):
    """A function of variables and arguments, and two pairs of these."""
    layer, arguments, options = LAYERS[name]
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], arguments) for i in range(2)]
    variables = drawn(layer, *parts[0], **options)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, variables)

    def run(variables, arguments):
        return layer.apply(variables, *arguments, **options, mutable=["batch_stats"])

    return run, list(zip((variables, doubled), parts, strict=True))


@pytest.mark.parametrize("name", names(SLOW))
def test_vmap_over_members(name):
    run, pairs = members(name)
    traces = []

    @jax.jit
    def jitted(variables, arguments):
        traces.append(1)
        return run(variables, arguments)

    alone = [jitted(*pair) for pair in pairs]
    assert len(traces) == 1
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *(pair[0] for pair in pairs))
    together = jax.jit(jax.vmap(run))(stacked, LAYERS[name][1])
    for i, wanted in enumerate(alone):
        found = jax.tree.map(lambda leaf, i=i: np.asarray(leaf)[i], together)
        chex.assert_trees_all_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", names((*SLOW, "GRU", "MultiheadAttention")))
def test_jit(name):
    run, pairs = members(name)
    chex.assert_trees_all_close(run(*pairs[0]), jax.jit(run)(*pairs[0]), rtol=1e-12, atol=1e-14)
