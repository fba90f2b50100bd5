"""Bad input: the message names the layer, the argument, what was expected, what came, a fix."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from jaxprob import nn

KEY = jax.random.key(0)
X = jnp.ones((2, 5, 4))
RECURRENT = {"RNN": nn.RNN(3), "GRU": nn.GRU(3), "LSTM": nn.LSTM(3)}
ATTENTION = nn.MultiheadAttention(4, 2)

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


@pytest.fixture(autouse=True)
def _as_users_see_it():
    """Without the tests' type hook, which is faster and says less."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("case", BAD)
def test_message(case):
    call, words = BAD[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call()
    for word in words:
        assert word in str(caught.value), str(caught.value)
