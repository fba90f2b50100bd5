"""GRU encoder and a GRU decoder with attention, teacher forcing."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

V, U, S, T = 9, 8, 6, 5


class Seq2Seq(nn.Module):
    carry: bool = False  # the last state by return_carry=True, or as the last output

    def setup(self):
        self.src_embed = nn.Embed(V, U)
        self.tgt_embed = nn.Embed(V, U)
        self.encoder = nn.RNN(nn.GRUCell(U, param_dtype=jnp.float32), return_carry=self.carry)
        self.decoder = nn.RNN(nn.GRUCell(U, param_dtype=jnp.float32))
        self.key = nn.Dense(U, use_bias=False)
        self.combine = nn.Dense(U)
        self.out = nn.Dense(V)

    def __call__(self, src, tgt):
        if self.carry:
            last, memory = self.encoder(self.src_embed(src))
        else:
            memory = self.encoder(self.src_embed(src))
            last = memory[:, -1]
        h = self.decoder(self.tgt_embed(tgt), initial_carry=last)
        scores = jnp.einsum("btd,bsd->bts", h, self.key(memory))
        scores = jnp.where((src != 0)[:, None], scores, -jnp.inf)
        context = jnp.einsum("bts,bsd->btd", nn.softmax(scores, -1), memory)
        h = jnp.tanh(self.combine(jnp.concatenate([h, context], -1)))
        return self.out(h)


class TorchSeq2Seq(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.src_embed = torch.nn.Embedding(V, U)
        self.tgt_embed = torch.nn.Embedding(V, U)
        self.encoder = torch.nn.GRU(U, U, batch_first=True)
        self.decoder = torch.nn.GRU(U, U, batch_first=True)
        self.key = torch.nn.Linear(U, U, bias=False)
        self.combine = torch.nn.Linear(2 * U, U)
        self.out = torch.nn.Linear(U, V)

    def forward(self, src, tgt):
        m = self.mistake
        memory, last = self.encoder(self.src_embed(src))
        y = self.tgt_embed(tgt)
        if m == "source reversed":
            memory, last = self.encoder(self.src_embed(src.flip(1)))
        if m == "decoder sees zeros":
            y = torch.zeros_like(y)
        if m == "shared embedding":
            y = self.src_embed(tgt)
        if m.startswith("decoder from zeros"):
            h, _ = self.decoder(y)
        elif m == "decoder from the mean":
            h, _ = self.decoder(y, memory.mean(1)[None].contiguous())
        elif m == "decoder from the first state":
            h, _ = self.decoder(y, memory[:, 0][None].contiguous())
        elif m == "step by step":
            state, rows = last, []
            for t in range(y.shape[1]):
                o, state = self.decoder(y[:, t : t + 1], state)
                rows.append(o)
            h = torch.cat(rows, 1)
        elif m == "last output":
            h, _ = self.decoder(y, memory[:, -1].unsqueeze(0).contiguous())
        else:
            h, _ = self.decoder(y, last)
        scores = torch.bmm(h, self.key(memory).transpose(1, 2))
        if m.startswith("scaled scores"):
            scores = scores / U**0.5
        if m == "softmax axis":
            weights = torch.softmax(scores.masked_fill((src == 0)[:, None], -1e9), dim=1)
        elif m == "padding attended":
            weights = torch.softmax(scores, dim=-1)
        elif m == "mask inverted":
            weights = torch.softmax(scores.masked_fill((src != 0)[:, None], -1e9), dim=-1)
        elif m == "hard attention":
            weights = F.one_hot(scores.masked_fill((src == 0)[:, None], -1e9).argmax(-1), S).to(
                scores
            )
        else:
            weights = torch.softmax(scores.masked_fill((src == 0)[:, None], float("-inf")), dim=-1)
        if m == "values are the keys":
            context = torch.bmm(weights, self.key(memory))
        else:
            context = torch.bmm(weights, memory)
        if m == "concat order":
            h = self.combine(torch.cat([context, h], -1))
        else:
            h = self.combine(torch.cat([h, context], -1))
        if m == "relu for tanh":
            h = F.relu(h)
        elif m != "tanh missing":
            h = torch.tanh(h)
        return self.out(h)


def jax_loss(logits, batch):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    w = batch["y"] != 0
    return (each * w).sum() / w.sum()


def torch_loss(mistake):
    def loss(logits, batch):
        y = batch["y"].long()
        if mistake == "padding counted":
            return F.cross_entropy(logits.reshape(-1, V), y.reshape(-1))
        if mistake == "target is the input":
            return F.cross_entropy(
                logits.reshape(-1, V), batch["tgt"].long().reshape(-1), ignore_index=0
            )
        if mistake == "last output":
            lp = logits.log_softmax(-1).gather(-1, y[..., None])[..., 0]
            return -(lp * (y != 0)).sum() / (y != 0).sum()
        if mistake == "sum of the tokens":
            return F.cross_entropy(
                logits.reshape(-1, V), y.reshape(-1), ignore_index=0, reduction="sum"
            )
        return F.cross_entropy(logits.reshape(-1, V), y.reshape(-1), ignore_index=0)

    return loss


def build(mistake, seed):
    r = rng(seed)
    src = r.integers(1, V, size=(4, S))
    y = r.integers(1, V, size=(4, T))
    for i, (a, b) in enumerate(((6, 5), (4, 3), (5, 4), (3, 5))):
        src[i, a:] = 0
        y[i, b:] = 0
    tgt = np.concatenate([np.ones((4, 1), int), y[:, :-1]], 1)
    return dict(
        flax_model=Seq2Seq(carry="return_carry" in mistake),
        torch_module=randomise(TorchSeq2Seq(mistake), seed),
        batch={"src": src, "tgt": tgt, "y": y},
        options=dict(
            inputs=("src", "tgt"),
            jax_loss=jax_loss,
            torch_loss=torch_loss(mistake),
            rename={"encoder/cell": "encoder.l0", "decoder/cell": "decoder.l0"},
        ),
    )
