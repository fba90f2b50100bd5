"""Bad input: the message names the layer, the argument, what was expected, what came, a fix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprob import nn
from tests.support.messages import require_message

KEY = jax.random.key(0)
X = jnp.ones((2, 5, 4))
RECURRENT = {"RNN": nn.RNN(3), "GRU": nn.GRU(3), "LSTM": nn.LSTM(3)}
ATTENTION = nn.MultiheadAttention(4, 2)


class Table:
    """A data frame as NumPy sees it."""

    def __init__(self, rows, dtype):
        self.values = np.array(rows, dtype)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


pytestmark = pytest.mark.usefixtures("as_users_see_it")

# case -> (call, words that the message must hold)
BAD = {
    "embedding, too large": (
        lambda: nn.Embedding(5, 2).init(KEY, jnp.array([[0, 1], [5, 7]])),
        ("Embedding", "indices", "[0, 5)", "2 of 4", "(1, 0)", ": 5.", "num_embeddings"),
    ),
    "embedding, negative": (
        lambda: nn.Embedding(5, 2).init(KEY, np.array([0, -1])),
        ("indices", "(1,)", "-1"),
    ),
    "embedding, no integers": (
        lambda: nn.Embedding(5, 2).init(KEY, jnp.ones(2)),
        ("indices", "integers", "float64", "astype"),
    ),
    "conv, groups": (
        lambda: nn.Conv(6, (3,), groups=3).init(KEY, X),
        ("Conv", "groups 3", "4 channels", "features 6"),
    ),
    "conv, axes": (
        lambda: nn.Conv(6, (3, 3)).init(KEY, jnp.ones((5, 4))),
        ("Conv", "2 spatial axes", "(5, 4)"),
    ),
    "conv, four axes": (lambda: nn.Conv(6, (1, 1, 1, 1)).init(KEY, X), ("kernel_size", "three")),
    "conv, stride of other axes": (
        lambda: nn.Conv(6, (3,), stride=(1, 2)).init(KEY, X),
        ("stride", "1 axes", "(1, 2)"),
    ),
    "conv, same with stride": (
        lambda: nn.Conv(6, (3,), stride=2, padding="same").init(KEY, X),
        ("padding='same'", "stride 1", "(2,)"),
    ),
    "conv, unknown padding": (
        lambda: nn.Conv(6, (3,), padding="SAME").init(KEY, X),
        ("padding", "'same'", "'SAME'"),
    ),
    "conv, window too large": (
        lambda: nn.Conv(6, (4,), dilation=2).init(KEY, X),
        ("spatial axis 0", "7 points", "has 5"),
    ),
    "conv transpose, output padding": (
        lambda: nn.ConvTranspose(6, (3,), stride=2, output_padding=2).init(KEY, X),
        ("ConvTranspose", "output_padding", "is 2", "stride 2"),
    ),
    "conv transpose, padding": (
        lambda: nn.ConvTranspose(6, (3,), padding=4).init(KEY, X),
        ("padding 4", "spatial axis 0"),
    ),
    "conv transpose, groups": (
        lambda: nn.ConvTranspose(6, (3,), groups=4).init(KEY, X),
        ("ConvTranspose", "groups 4", "features 6"),
    ),
    "group norm": (
        lambda: nn.GroupNorm(3).init(KEY, X),
        ("GroupNorm", "num_groups 3", "4 channels"),
    ),
    "batch norm, one row": (
        lambda: nn.BatchNorm().init(KEY, X[:1, 0], train=True),
        ("BatchNorm", "more than one value", "(1, 4)"),
    ),
    "dropout, rate": (lambda: nn.Dropout(1.5).apply({}, X, KEY), ("Dropout", "rate", "1.5")),
    "dropout, no key": (lambda: nn.Dropout(0.5).apply({}, X, None), ("key", "None", "train=False")),
    "RNN, nonlinearity": (
        lambda: nn.RNN(3, nonlinearity="gelu").init(KEY, X),
        ("RNN", "nonlinearity", "'gelu'"),
    ),
    "attention, heads": (
        lambda: nn.MultiheadAttention(4, 3).init(KEY, X),
        ("num_heads 3", "embed_dim 4"),
    ),
    "attention, size": (
        lambda: nn.MultiheadAttention(6, 3).init(KEY, X),
        ("query", "E = 6", "(2, 5, 4)"),
    ),
    "attention, batch": (
        lambda: ATTENTION.init(KEY, X, X[:1]),
        ("key", "(2,)", "(1, 5, 4)"),
    ),
    "attention, lengths of key and value": (
        lambda: ATTENTION.init(KEY, X, X, X[:, :3]),
        ("one length", "5", "3"),
    ),
    "attention, mask of keys": (
        lambda: ATTENTION.init(KEY, X, mask=jnp.ones((2, 4), bool)),
        ("mask", "True = keep", "(2, 2, 5, 5)", "(1, 1, 2, 4)", "None, None"),
    ),
    "attention, mask of numbers": (
        lambda: ATTENTION.init(KEY, X, mask=jnp.ones((5, 5))),
        ("mask", "boolean", "float64"),
    ),
}
# Written as in torch.nn: sizes first, or arguments that stand elsewhere there.
BAD |= {
    "layer norm as in torch": (lambda: nn.LayerNorm(64), ("LayerNorm", "eps", "(64,)", "by name")),
    "RMS norm as in torch": (lambda: nn.RMSNorm(64), ("RMSNorm", "eps", "(64,)", "RMSNorm()")),
    "batch norm as in torch": (lambda: nn.BatchNorm(64), ("BatchNorm", "momentum", "(64,)")),
    "group norm as in torch": (lambda: nn.GroupNorm(4, 64), ("GroupNorm", "eps", "GroupNorm(4)")),
    "linear as in torch": (lambda: nn.Linear(64, 10), ("Linear", "bias", "Linear(10)")),
    "GRU as in torch": (lambda: nn.GRU(10, 20), ("GRU", "num_layers", "GRU(20)")),
    "LSTM as in torch": (lambda: nn.LSTM(10, 20, 2), ("LSTM", "num_layers", "LSTM(20)")),
    "RNN as in torch": (lambda: nn.RNN(10, 20), ("RNN", "num_layers", "RNN(20)")),
    "attention as in torch": (
        lambda: nn.MultiheadAttention(64, 4, 0.1),
        ("MultiheadAttention", "bias", "dropout"),
    ),
    "conv as in torch": (
        lambda: nn.Conv(4, 16, (3, 3)).init(KEY, X),
        ("Conv", "kernel_size", "16", "channels are those of x"),
    ),
    "conv transpose as in torch": (
        lambda: nn.ConvTranspose(4, (3,), 1, 0, 0, 2),
        ("ConvTranspose", "dilation, groups, bias must be given by name"),
    ),
    "batch norm, momentum None": (
        lambda: nn.BatchNorm(momentum=None).init(KEY, X, train=True),
        ("BatchNorm", "momentum", "None", "average of all batches"),
    ),
    "batch norm, momentum": (
        lambda: nn.BatchNorm(momentum=1.5).init(KEY, X, train=True),
        ("BatchNorm", "momentum", "[0, 1]", "1.5"),
    ),
    "layer norm, eps": (lambda: nn.LayerNorm(eps=-1.0).init(KEY, X), ("LayerNorm", "eps", "-1")),
    "group norm, groups 0": (lambda: nn.GroupNorm(0).init(KEY, X), ("GroupNorm", "num_groups")),
    "conv, int kernel": (
        lambda: nn.Conv(4, 3).init(KEY, X),
        ("Conv", "kernel_size", "got 3", "(3, 3)"),
    ),
    "conv, kernel 0": (lambda: nn.Conv(4, (0,)).init(KEY, X), ("Conv", "kernel_size", "got 0")),
    "conv, stride 0": (lambda: nn.Conv(4, (3,), 0).init(KEY, X), ("Conv", "stride", "got 0")),
    "conv, stride 1.5": (lambda: nn.Conv(4, (3,), 1.5).init(KEY, X), ("stride", "whole", "1.5")),
    "conv, padding -1": (lambda: nn.Conv(4, (3,), 1, -1).init(KEY, X), ("padding", "got -1")),
    "conv, groups 0": (lambda: nn.Conv(4, (3,), groups=0).init(KEY, X), ("groups", "got 0")),
    "conv, empty axis": (
        lambda: nn.Conv(4, (3,), padding=2).init(KEY, X[:, :0]),
        ("Conv", "at least one point", "(2, 0, 4)"),
    ),
    "conv transpose, empty axis": (
        lambda: nn.ConvTranspose(4, (3,)).init(KEY, X[:, :0]),
        ("ConvTranspose", "at least one point", "(2, 0, 4)"),
    ),
    "conv transpose, dilation 0": (
        lambda: nn.ConvTranspose(4, (3,), dilation=0).init(KEY, X),
        ("ConvTranspose", "dilation", "got 0"),
    ),
    "linear, features": (lambda: nn.Linear(0).init(KEY, X), ("Linear", "features", "got 0")),
    "embedding, size": (lambda: nn.Embedding(2.5, 2).init(KEY, [0]), ("num_embeddings", "2.5")),
    "embedding, list of words": (
        lambda: nn.Embedding(5, 2).init(KEY, ["a", "b"]),
        ("Embedding", "indices", "integers"),
    ),
    "attention, no heads": (
        lambda: nn.MultiheadAttention(4, 0).init(KEY, X),
        ("MultiheadAttention", "num_heads", "got 0"),
    ),
    "attention, list as mask": (
        lambda: ATTENTION.init(KEY, X, mask=[1.0, 0.0, 1.0, 1.0, 1.0]),
        ("mask", "boolean", "float"),
    ),
    "GRU, no layers": (lambda: nn.GRU(3, num_layers=0).init(KEY, X), ("GRU", "num_layers")),
    "LSTM, one state": (
        lambda: nn.LSTM(3).init(KEY, X, jnp.ones((1, 2, 3))),
        ("LSTM", "initial", "pair (h, c)"),
    ),
    "MLP, one width": (lambda: nn.MLP(64).init(KEY, X), ("MLP", "hidden", "(64, 64)", "64")),
    "MADE, one width": (lambda: nn.MADE(4, 64).init(KEY, X), ("MADE", "hidden", "got 64")),
    "dropout, None": (lambda: nn.Dropout(None).apply({}, X, KEY), ("Dropout", "rate", "None")),
    "flatten, one axis": (lambda: nn.Flatten().apply({}, X[0, 0]), ("Flatten", "(4,)")),
    "standardize, one axis": (
        lambda: nn.Standardize.of(np.arange(4.0)),
        ("Standardize.of", "[N, D]", "(4,)", "x[:, None]"),
    ),
    "standardize, words": (
        lambda: nn.Standardize.of(Table([[1.0, "x"], [2.0, "y"]], object)),
        ("Standardize.of", "numbers", "object"),
    ),
    "standardize, NaN": (
        lambda: nn.Standardize.of(np.array([[0.0, 1.0], [1.0, np.nan]])),
        ("Standardize.of", "feature 1", "not finite"),
    ),
    "standardize, constant": (
        lambda: nn.Standardize.of(np.full((1000, 1), 0.1, "float32")),
        ("feature 0", "constant"),
    ),
}
for name, layer in RECURRENT.items():
    first = jnp.ones((2, 2, 3))
    BAD |= {
        f"{name}, no batch": (
            lambda layer=layer: layer.init(KEY, X[0]),
            (name, "[B, T, D]", "(5, 4)"),
        ),
        f"{name}, first state": (
            lambda layer=layer, first=first, name=name: layer.init(
                KEY, X, (first, first) if name == "LSTM" else first
            ),
            (name, "initial", "(1, 2, 3)", "(2, 2, 3)"),
        ),
        f"{name}, lengths too long": (
            lambda layer=layer: layer.init(KEY, X, None, jnp.array([2, 6])),
            (name, "lengths", "T = 5", "(1,)", "6"),
        ),
        f"{name}, lengths of another batch": (
            lambda layer=layer: layer.init(KEY, X, None, jnp.array([2, 2, 2])),
            (name, "lengths", "B = 2", "(3,)"),
        ),
        f"{name}, lengths that are no integers": (
            lambda layer=layer: layer.init(KEY, X, None, jnp.ones(2)),
            (name, "lengths", "integers", "float64"),
        ),
    }


@pytest.mark.parametrize("case", BAD)
def test_message(case):
    require_message(*BAD[case])


def test_lists_and_numpy_numbers_are_taken():
    """Lengths, masks and indices as lists; strides and counts as NumPy's integers."""
    table, rnn = nn.Embedding(5, 2), nn.GRU(3)
    words = table.init(KEY, [0, 1])
    np.testing.assert_array_equal(
        table.apply(words, [[0, 4]]), table.apply(words, np.array([[0, 4]]))
    )
    params = rnn.init(KEY, X)
    out, _ = rnn.apply(params, X, None, [2, 5])
    np.testing.assert_array_equal(out, rnn.apply(params, X, None, jnp.array([2, 5]))[0])
    params, keep = ATTENTION.init(KEY, X), [True, True, False, True, True]
    found = ATTENTION.apply(params, X, mask=keep)
    np.testing.assert_array_equal(found, ATTENTION.apply(params, X, mask=jnp.array(keep)))
    plain, typed = nn.Conv(4, (3,), 2), nn.Conv(np.int64(4), np.array([3]), np.int32(2))
    params = plain.init(KEY, X)
    np.testing.assert_array_equal(typed.apply(params, X), plain.apply(params, X))


def test_a_table_is_standardised_as_its_array():
    values = np.array([[1, 0.5], [2, 0.25], [6, 0.0]])
    layer = nn.Standardize.of(Table(values, float))
    np.testing.assert_allclose(layer.mean, values.mean(0), rtol=1e-15)
    np.testing.assert_allclose(layer.std, values.std(0), rtol=1e-15)
