"""Traps of recurrent layers and attention."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch

from jaxprob import optim
from parity_tests.traps.pair import WIDTH, Pair, trap

ADAM = (optim.adam(1e-2), lambda p: torch.optim.Adam(p, 1e-2))

# Sequences: a Flax cell with PyTorch's weights and somebody's own idea of the gates


class HandWritten(nn.Module):
    """A recurrent layer with PyTorch's weights and one mistake."""

    kind: str

    @nn.compact
    def __call__(self, x):
        gates = {"GRU": 3, "LSTM": 4}[self.kind]
        uniform = nn.initializers.uniform(1.0)
        w_ih = self.param("weight_ih_l0", uniform, (gates * WIDTH, x.shape[-1]))
        w_hh = self.param("weight_hh_l0", uniform, (gates * WIDTH, WIDTH))
        b_ih = self.param("bias_ih_l0", uniform, (gates * WIDTH,))
        b_hh = self.param("bias_hh_l0", uniform, (gates * WIDTH,))
        h = c = jnp.zeros((x.shape[0], WIDTH), x.dtype)
        out = []
        for t in range(x.shape[1]):
            a, b = x[:, t] @ w_ih.T + b_ih, h @ w_hh.T
            if self.kind == "GRU":
                (ar, az, an), (br, bz, bn) = jnp.split(a, 3, -1), jnp.split(b, 3, -1)
                cr, cz, cn = jnp.split(b_hh, 3)
                r, z = nn.sigmoid(ar + br + cr), nn.sigmoid(az + bz + cz)
                n = jnp.tanh(an + cn + r * bn)  # cn belongs inside the product
                h = (1 - z) * n + z * h
            else:
                i, f, o, g = jnp.split(a + b + b_hh, 4, -1)  # PyTorch: i, f, g, o
                c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
                h = nn.sigmoid(o) * jnp.tanh(c)
            out.append(h)
        return jnp.stack(out, 1)


class Sequences(torch.nn.Module):
    """Linear layers before and after a sequence layer that returns a tuple."""

    def __init__(self, before: int, middle: torch.nn.Module):
        super().__init__()
        self.before = torch.nn.Sequential(
            *[torch.nn.Linear(WIDTH, WIDTH) for _ in range(before)],
        )
        self.middle, self.last = middle, torch.nn.Linear(WIDTH, 2)

    def forward(self, x, mask=None):
        x = self.before(x)
        if isinstance(self.middle, torch.nn.MultiheadAttention):
            x, _ = self.middle(x, x, x, attn_mask=mask, need_weights=False)
        else:
            x, _ = self.middle(x)
        return self.last(x)


class FlaxSequences(nn.Module):
    before: int
    middle: Any
    takes_mask: bool = False

    @nn.compact
    def __call__(self, x, mask=None):
        for i in range(self.before):
            x = nn.Dense(WIDTH, name=f"before_{i}")(x)
        middle = self.middle("middle")
        x = middle(x, mask=mask) if self.takes_mask else middle(x)
        return nn.Dense(2, name="last")(x)


def sequences(rng, ours, twin, suspect, takes_mask=False, **options):
    before = int(rng.integers(1, 4))
    model = FlaxSequences(before, ours, takes_mask)
    options["rename"] = {f"before_{i}": f"before.{i}" for i in range(before)}
    batch = {"x": rng.normal(size=(3, 4, WIDTH))}
    return Pair(model, Sequences(before, twin), batch, suspect, "middle", options)


@trap
def gru_candidate_bias(rng):
    twin = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, lambda name: HandWritten("GRU", name=name), twin, "candidate bias")


@trap
def lstm_gate_order(rng):
    twin = torch.nn.LSTM(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, lambda name: HandWritten("LSTM", name=name), twin, "gate order")


@trap
def two_trainable_biases(rng):
    def ours(name):
        return nn.RNN(nn.GRUCell(WIDTH, name=name))

    twin = torch.nn.GRU(WIDTH, WIDTH, batch_first=True)
    return sequences(rng, ours, twin, "two biases", optimizer=ADAM, steps=10)


@trap
def attention_mask_sense(rng):
    def ours(name):
        return nn.MultiHeadDotProductAttention(num_heads=2, name=name)

    twin = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    pair = sequences(rng, ours, twin, "mask sense", takes_mask=True, inputs=("x", "mask"))
    pair.batch["mask"] = np.tri(4, k=0, dtype=bool) ^ np.eye(4, k=1, dtype=bool)
    return pair
