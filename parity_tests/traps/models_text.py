"""Recurrent classifiers, a small GPT and a stock attention layer, and what goes wrong in them."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from parity_tests.traps.pair import Pair

__all__ = ["BIRNN", "CELL", "GPT", "RNN", "STOCK"]

WORDS, WIDTH, HIDDEN, TIME = 11, 6, 5, 7


def tokens(rng):
    return {"x": rng.integers(0, WORDS, size=(4, TIME))}


# Embedding, LSTM, linear; @nn.compact in Flax


class ForgetBiasCell(nn.OptimizedLSTMCell):
    """The LSTM of TensorFlow 1: one is added inside the sigmoid of the forget gate."""

    @nn.compact
    def __call__(self, carry, inputs):
        c, h = carry
        width = h.shape[-1]
        x = {g: nn.Dense(width, use_bias=False, name=f"i{g}")(inputs) for g in "ifgo"}
        y = {g: x[g] + nn.Dense(width, name=f"h{g}")(h) for g in "ifgo"}
        c = nn.sigmoid(y["f"] + 1.0) * c + nn.sigmoid(y["i"]) * jnp.tanh(y["g"])
        h = nn.sigmoid(y["o"]) * jnp.tanh(c)
        return (c, h), h


class FlaxLSTMClassifier(nn.Module):
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        mask = (x != 0).astype("float64")[..., None]
        h = nn.Embed(WORDS, WIDTH, name="embed")(x)
        cell = ForgetBiasCell if self.mistake == "forget bias" else nn.OptimizedLSTMCell
        (c, last), out = nn.RNN(cell(HIDDEN), return_carry=True, name="lstm")(h)
        if self.mistake == "first step":
            last = out[:, 0]
        if self.mistake == "cell state":
            last = c
        if self.mistake == "mean over padding":
            mask = jnp.ones_like(mask)
        mean = (out * mask).sum(1) / jnp.maximum(mask.sum(1), 1.0)
        h = nn.Dropout(0.3, deterministic=True, name="drop")(jnp.concatenate([mean, last], -1))
        return nn.Dense(3, name="head")(h)


class TorchLSTMClassifier(torch.nn.Module):
    def __init__(self, padding_idx=None):
        super().__init__()
        self.embed = torch.nn.Embedding(WORDS, WIDTH, padding_idx=padding_idx)
        self.lstm = torch.nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.drop = torch.nn.Dropout(0.3)
        self.head = torch.nn.Linear(2 * HIDDEN, 3)

    def forward(self, x):
        mask = (x != 0).unsqueeze(-1)
        out, (h, _) = self.lstm(self.embed(x))
        mean = (out * mask).sum(1) / mask.sum(1).clamp(min=1)
        return self.head(self.drop(torch.cat([mean, h[-1]], dim=-1)))


def RNN(mistake, rng):
    module = TorchLSTMClassifier(0 if mistake == "padding index" else None).eval()
    batch = tokens(rng)
    batch["x"][:, -2:] = 0
    cell = "ForgetBiasCell_0" if mistake == "forget bias" else "OptimizedLSTMCell_0"
    rename = {cell: "lstm"}  # Linen names it after its class, beside the RNN that runs it
    return Pair(FlaxLSTMClassifier(mistake), module, batch, "", "", {"rename": rename})


# Two directions


class ResetBeforeCell(nn.GRUCell):
    """Keras with reset_after=False, and most papers: the reset gate comes before the product."""

    @nn.compact
    def __call__(self, carry, inputs):
        width = carry.shape[-1]
        r = nn.sigmoid(
            nn.Dense(width, name="ir")(inputs) + nn.Dense(width, use_bias=False, name="hr")(carry)
        )
        z = nn.sigmoid(
            nn.Dense(width, name="iz")(inputs) + nn.Dense(width, use_bias=False, name="hz")(carry)
        )
        n = jnp.tanh(nn.Dense(width, name="in")(inputs) + nn.Dense(width, name="hn")(r * carry))
        h = (1.0 - z) * n + z * carry
        return h, h


class FlaxBiGRU(nn.Module):
    mistake: str = ""

    def setup(self):
        cell = ResetBeforeCell if self.mistake == "reset before" else nn.GRUCell
        self.embed = nn.Embed(WORDS, WIDTH)
        self.forwards = nn.RNN(cell(HIDDEN))
        self.backwards = nn.RNN(
            cell(HIDDEN), reverse=True, keep_order=self.mistake != "kept reversed"
        )
        self.norm = nn.LayerNorm(epsilon=1e-5)
        self.head = nn.Dense(3)

    def __call__(self, x):
        x = self.embed(x)
        both = [self.forwards(x), self.backwards(x)]
        if self.mistake == "directions swapped":
            both.reverse()
        return self.head(self.norm(jnp.concatenate(both, axis=-1)))


class TorchBiGRU(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(WORDS, WIDTH)
        self.gru = torch.nn.GRU(WIDTH, HIDDEN, batch_first=True, bidirectional=True)
        self.norm = torch.nn.LayerNorm(2 * HIDDEN)
        self.head = torch.nn.Linear(2 * HIDDEN, 3)

    def forward(self, x):
        return self.head(self.norm(self.gru(self.embed(x))[0]))


def BIRNN(mistake, rng):
    rename = {"forwards": "gru.l0", "backwards": "gru.l0_reverse"}
    return Pair(FlaxBiGRU(mistake), TorchBiGRU(), tokens(rng), "", "", {"rename": rename})


# A cell by hand, unrolled


class FlaxCell(nn.Module):
    mistake: str

    @nn.compact
    def __call__(self, x, h, c):
        gates = nn.Dense(4 * HIDDEN, name="x2h")(x) + nn.Dense(4 * HIDDEN, name="h2h")(h)
        if self.mistake:  # the order of Haiku
            i, g, f, o = jnp.split(gates, 4, axis=-1)
        else:
            i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return nn.sigmoid(o) * jnp.tanh(c), c


class FlaxUnrolled(nn.Module):
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        cell = FlaxCell(self.mistake, name="cell")
        h = c = jnp.zeros((x.shape[0], HIDDEN))
        for t in range(x.shape[1]):
            h, c = cell(x[:, t], h, c)
        return nn.Dense(2, name="out")(h)


class TorchCell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.x2h = torch.nn.Linear(3, 4 * HIDDEN)
        self.h2h = torch.nn.Linear(HIDDEN, 4 * HIDDEN)

    def forward(self, x, h, c):
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class TorchUnrolled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = TorchCell(), torch.nn.Linear(HIDDEN, 2)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], HIDDEN)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], h, c)
        return self.out(h)


def CELL(mistake, rng):
    return Pair(FlaxUnrolled(mistake), TorchUnrolled(), {"x": rng.normal(size=(4, 3, 3))}, "", "")


# GPT with tied embeddings; attention by hand


def positions(time, width, interleaved):
    at = np.arange(time)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    if interleaved:
        return np.stack([np.sin(at), np.cos(at)], axis=-1).reshape(time, width)
    return np.concatenate([np.sin(at), np.cos(at)], axis=-1)


class FlaxAttention(nn.Module):
    heads: int
    mistake: str

    @nn.compact
    def __call__(self, x):
        b, t, e = x.shape

        def split(y):
            return y.reshape(b, t, self.heads, -1).transpose(0, 2, 1, 3)

        q, k, v = (split(nn.Dense(e, name=name)(x)) for name in "qkv")
        width = e if self.mistake == "scale of the width" else q.shape[-1]
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(width)
        if self.mistake != "no causal mask":
            scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
        weights = jax.nn.softmax(scores, axis=-2 if self.mistake == "softmax axis" else -1)
        y = weights @ v
        if self.mistake != "heads not moved back":
            y = y.transpose(0, 2, 1, 3)
        return nn.Dense(e, name="out")(y.reshape(b, t, e))


class FlaxBlock(nn.Module):
    mistake: str

    def setup(self):
        epsilon = 1e-6 if self.mistake == "norm epsilon" else 1e-5
        self.norm1, self.norm2 = nn.LayerNorm(epsilon=epsilon), nn.LayerNorm(epsilon=epsilon)
        self.attn = FlaxAttention(2, self.mistake)
        self.fc1, self.fc2 = nn.Dense(2 * WIDTH), nn.Dense(WIDTH)

    def __call__(self, x):
        def mlp(y):
            return self.fc2(nn.gelu(self.fc1(y), approximate=self.mistake == "gelu"))

        if self.mistake == "norm after":
            x = self.norm1(x + self.attn(x))
            return self.norm2(x + mlp(x))
        x = x + self.attn(self.norm1(x))
        return x + mlp(self.norm2(x))


class FlaxGPT(nn.Module):
    mistake: str = ""

    def setup(self):
        self.embed = nn.Embed(WORDS, WIDTH)
        self.blocks = [FlaxBlock(self.mistake), FlaxBlock(self.mistake)]
        self.norm = nn.LayerNorm(epsilon=1e-5)

    def __call__(self, x):
        scale = 1.0 if self.mistake == "embedding scale" else math.sqrt(WIDTH)
        h = self.embed(x) * scale + positions(TIME, WIDTH, self.mistake != "positions")
        # the second block is used twice
        passes = 1 if self.mistake == "one block too few" else 2
        for block in [self.blocks[0]] + passes * [self.blocks[1]]:
            h = block(h)
        scale = WIDTH**-0.5 if self.mistake == "tied head scale" else 1.0
        return self.embed.attend(self.norm(h) * scale)


class TorchAttention(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k = torch.nn.Linear(width, width), torch.nn.Linear(width, width)
        self.v, self.out = torch.nn.Linear(width, width), torch.nn.Linear(width, width)

    def forward(self, x):
        b, t, e = x.shape
        q, k, v = (
            f(x).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, t, e))


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attn = torch.nn.LayerNorm(WIDTH), TorchAttention(WIDTH, 2)
        self.norm2 = torch.nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = torch.nn.Linear(WIDTH, 2 * WIDTH), torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class TorchGPT(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(WORDS, WIDTH)
        self.blocks = torch.nn.ModuleList([TorchBlock(), TorchBlock()])
        self.norm = torch.nn.LayerNorm(WIDTH)
        table = torch.tensor(positions(TIME, WIDTH, True))
        self.register_buffer("table", table, persistent=False)

    def forward(self, x):
        h = self.embed(x) * math.sqrt(WIDTH) + self.table
        for block in (self.blocks[0], self.blocks[1], self.blocks[1]):
            h = block(h)
        return F.linear(self.norm(h), self.embed.weight)


def GPT(mistake, rng):
    rename = {"blocks_0": "blocks.0", "blocks_1": "blocks.1"}
    return Pair(FlaxGPT(mistake), TorchGPT(), tokens(rng), "", "", {"rename": rename})


# The libraries' own attention


class FlaxStock(nn.Module):
    mistake: str = ""

    @nn.compact
    def __call__(self, x, padding):
        mask = padding if self.mistake == "mask sense" else ~padding
        mask = None if self.mistake == "no mask" else mask[:, None, None, :]
        x = nn.Dense(WIDTH, name="proj")(x)
        y = nn.MultiHeadDotProductAttention(2, name="attn")(x, x, mask=mask)
        return nn.Dense(2, name="out")(nn.relu(nn.LayerNorm(epsilon=1e-5, name="norm")(x + y)))


class TorchStock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(3, WIDTH)
        self.attn = torch.nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.norm, self.out = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 2)

    def forward(self, x, padding):
        x = self.proj(x)
        y, _ = self.attn(x, x, x, key_padding_mask=padding, need_weights=False)
        return self.out(self.norm(x + y).relu())


def STOCK(mistake, rng):
    padding = np.arange(TIME)[None] >= rng.integers(3, TIME, size=(4, 1))
    batch = {"x": rng.normal(size=(4, TIME, 3)), "padding": padding}
    return Pair(FlaxStock(mistake), TorchStock(), batch, "", "", {"inputs": ("x", "padding")})
