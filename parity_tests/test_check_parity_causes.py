"""Causes by what is known of each side: runs of sequences, masks, first arguments, outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import jaxprob.distributions as jd
from jaxprob import interop

_rng = np.random.default_rng(4)
X = _rng.normal(size=(5, 6, 3))
LENGTHS = np.array([6, 2, 4, 5, 3])


def cause(flax_model, torch_module, batch=None, **options):
    report = interop.check_parity(flax_model, torch_module, batch or {"x": X}, **options)
    (found,) = report.findings
    return found


class Torch(torch.nn.Module):
    """Linear layers and a function of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        torch.manual_seed(1)
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *x):
        return self.run(self, *x)


class Flax(nn.Module):
    run: object

    @nn.compact
    def __call__(self, *x):
        return self.run(*x)


def test_probabilities_given_as_logits():
    found = cause(
        Flax(lambda x: jd.Bernoulli(nn.sigmoid(nn.Dense(2, name="fc")(x)))),
        Torch(
            lambda m, x: torch.distributions.Bernoulli(torch.sigmoid(m.fc(x))),
            fc=torch.nn.Linear(3, 2),
        ),
    )
    assert (found.layer, found.suspect) == ("fc", "probabilities as logits")
    assert "probs=" in found.explanation


def test_outputs_in_another_order():
    layers = {name: torch.nn.Linear(3, 2) for name in ("loc", "scale")}
    found = cause(
        Flax(lambda x: (nn.Dense(2, name="loc")(x), nn.Dense(2, name="scale")(x))),
        Torch(lambda m, x: (m.scale(x), m.loc(x)), **layers),
    )
    assert found.suspect == "order of the outputs"


@pytest.mark.parametrize("side", ["Flax", "PyTorch"])
def test_a_scale_in_front_of_a_mask(side):
    """Scores with masked entries of -inf: neither the mask nor a shift in time is the cause."""

    def flax(x, hide):
        q, k, v = (nn.Dense(4, name=name)(x) for name in "qkv")
        scores = jnp.einsum("btd,bsd->bts", q, k) / (2.0 if side == "Flax" else 1.0)
        return nn.softmax(jnp.where(hide[:, None], -jnp.inf, scores)) @ v

    def twin(m, x, hide):
        scores = m.q(x) @ m.k(x).transpose(1, 2) / (2.0 if side == "PyTorch" else 1.0)
        return torch.softmax(scores.masked_fill(hide[:, None], float("-inf")), -1) @ m.v(x)

    found = cause(
        Flax(flax),
        Torch(twin, **{name: torch.nn.Linear(3, 4) for name in "qkv"}),
        {"x": X, "hide": np.arange(6) >= LENGTHS[:, None]},
        inputs=("x", "hide"),
    )
    assert "scale" in found.suspect, found


def runs(keep_order, given, zeroed):
    def run(x, lengths):
        ends = lengths if given else None
        there = nn.RNN(nn.GRUCell(4, name="there"))(x, seq_lengths=ends)
        back = nn.RNN(nn.GRUCell(4, name="back"), reverse=True, keep_order=keep_order)
        h = jnp.concatenate([there, back(x, seq_lengths=ends)], axis=-1)
        inside = jnp.arange(x.shape[1])[None] < lengths[:, None]
        return nn.Dense(2, name="out")(h * inside[..., None] if zeroed else h)

    return Flax(run)


def packed(m, x, lengths):
    h = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return m.out(pad_packed_sequence(m.rnn(h)[0], batch_first=True, total_length=x.shape[1])[0])


def padded(m, x, lengths):
    return m.out(m.rnn(x)[0])


@pytest.mark.parametrize(
    ("flax", "twin", "suspect"),
    [
        (runs(True, True, False), packed, "states behind the ends"),
        (runs(True, False, True), packed, "sequence lengths"),
        (runs(False, True, True), packed, "reversed order"),
        (runs(False, False, False), padded, "reversed order"),
        (runs(True, True, False), padded, "sequence lengths"),
    ],
)
def test_what_runs_do_with_their_sequences(flax, twin, suspect):
    layers = {
        "rnn": torch.nn.GRU(3, 4, bidirectional=True, batch_first=True),
        "out": torch.nn.Linear(8, 2),
    }
    found = cause(
        flax,
        Torch(twin, **layers),
        {"x": X, "lengths": LENGTHS},
        inputs=("x", "lengths"),
        rename={"there": "rnn.l0", "back": "rnn.l0_reverse"},
    )
    assert (found.layer, found.suspect) == ("rnn", suspect), found


@pytest.mark.parametrize(
    ("given", "suspect"),
    [(None, "mask missing"), ("kept", "mask sense"), ("others", "another mask")],
)
def test_a_mask_of_flax_that_pytorch_has_not(given, suspect):
    kept = np.arange(6) < LENGTHS[:, None]
    masks = {None: None, "kept": torch.tensor(kept), "others": torch.tensor(~np.roll(kept, 1, 0))}

    def flax(x, keep):
        layer = nn.MultiHeadDotProductAttention(2, qkv_features=4, name="attention")
        return layer(x, mask=keep[:, None, None, :])

    found = cause(
        Flax(flax),
        Torch(
            lambda m, x, keep: m.attention(x, x, x, key_padding_mask=masks[given])[0],
            attention=torch.nn.MultiheadAttention(4, 2, batch_first=True),
        ),
        {"x": _rng.normal(size=(5, 6, 4)), "keep": kept},
        inputs=("x", "keep"),
    )
    assert (found.layer, found.suspect) == ("attention", suspect), found


def test_the_first_state_of_a_layer_that_takes_steps_first():
    """PyTorch's default `[T, B, ...]` is no cause of its own."""

    def flax(x):
        carry = jnp.ones((x.shape[0], 4), x.dtype)
        h = nn.RNN(nn.GRUCell(4, name="cell"))(x, initial_carry=carry)
        return nn.Dense(2, name="out")(h)

    found = cause(
        Flax(flax),
        Torch(
            lambda m, x: m.out(m.rnn(x.transpose(0, 1))[0]).transpose(0, 1),
            rnn=torch.nn.GRU(3, 4),
            out=torch.nn.Linear(4, 2),
        ),
        rename={"cell": "rnn.l0"},
    )
    assert (found.layer, found.suspect) == ("rnn", "initial state"), found


def matrices(tree):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)


class Clipped(torch.optim.SGD):
    bound = 1.0

    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_(self.param_groups[0]["params"], self.bound)
        return super().step(closure)


class ClippedTwice(Clipped):
    bound = 0.1


RUNS = {
    "decay of some groups": (
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.01)),
        lambda p: torch.optim.SGD(
            [
                {"params": [w for w in p if w.ndim > 1], "weight_decay": 0.1},
                {"params": [w for w in p if w.ndim == 1]},
            ],
            0.01,
        ),
        "weight decay",
    ),
    "decay of matrices": (
        optax.adamw(0.01, weight_decay=0.1, mask=matrices),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
        "biases not decayed",
    ),
    "another norm": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01)),
        lambda p: ClippedTwice(p, 0.01),
        "clipping",
    ),
    "equal": (
        optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01)),
        lambda p: Clipped(p, 0.01),
        None,
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_what_optimisers_do_otherwise(name):
    ours, theirs, suspect = RUNS[name]
    report = interop.check_parity(
        Flax(lambda x: nn.Dense(2, name="b")(nn.tanh(nn.Dense(4, name="a")(x)))),
        Torch(
            lambda m, x: m.b(torch.tanh(m.a(x))), a=torch.nn.Linear(3, 4), b=torch.nn.Linear(4, 2)
        ),
        {"x": X[:, 0]},
        jax_loss=lambda output, batch: jnp.sum(output**2),
        torch_loss=lambda output, batch: (output**2).sum(),
        optimizer=(ours, lambda parameters: theirs(list(parameters))),
        steps=6,
    )
    assert [found.suspect for found in report.findings] == ([suspect] if suspect else [])
