"""BiLSTM tagger, packed sequences."""

import flax.linen as nn
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from parity_tests.traps.ports.weights import randomise, rng

V, T, E, U, C = 12, 7, 6, 5, 4


class Tagger(nn.Module):
    def setup(self):
        self.embed = nn.Embed(V, E)
        self.fwd = nn.RNN(nn.OptimizedLSTMCell(U, param_dtype=jnp.float32))
        self.bwd = nn.RNN(
            nn.OptimizedLSTMCell(U, param_dtype=jnp.float32), reverse=True, keep_order=True
        )
        self.out = nn.Dense(C)

    def __call__(self, x, lengths):
        h = self.embed(x)
        mask = jnp.arange(x.shape[1])[None] < lengths[:, None]
        f = self.fwd(h, seq_lengths=lengths)
        b = self.bwd(h, seq_lengths=lengths)
        h = jnp.concatenate([f, b], axis=-1) * mask[..., None]
        return self.out(h)


class TorchTagger(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.embed = torch.nn.Embedding(V, E)
        self.lstm = torch.nn.LSTM(E, U, batch_first=True, bidirectional=True)
        self.out = torch.nn.Linear(2 * U, C)

    def forward(self, x, lengths):
        m = self.mistake
        h = self.embed(x)
        mask = torch.arange(x.shape[1])[None] < lengths[:, None]
        if m == "relu after embedding":
            h = F.relu(h)
        if m == "not packed":
            h, _ = self.lstm(h)
            h = h * mask[..., None]
        elif m == "lengths off by one":
            packed = pack_padded_sequence(
                h, (lengths - 1).clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
            h, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=x.shape[1]
            )
        elif m == "sorted by hand":
            lengths, order = lengths.cpu().sort(descending=True)
            packed = pack_padded_sequence(h[order], lengths, batch_first=True)
            h, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=x.shape[1]
            )
            h = h[torch.argsort(order)]
        elif m == "row by row":
            rows = []
            for i, n in enumerate(lengths.tolist()):
                o, _ = self.lstm(h[i : i + 1, :n])
                rows.append(F.pad(o, (0, 0, 0, x.shape[1] - n)))
            h = torch.cat(rows)
        else:
            packed = pack_padded_sequence(h, lengths.cpu(), batch_first=True, enforce_sorted=False)
            out, _ = self.lstm(packed)
            h, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
        if m == "concat order":
            f, b = h.chunk(2, dim=-1)
            h = torch.cat([b, f], dim=-1)
        if m == "interleaved":
            h = h.reshape(*h.shape[:2], 2, U).transpose(2, 3).reshape(*h.shape[:2], 2 * U)
        if m == "tanh on the states":
            h = torch.tanh(h)
        return self.out(h)


def jax_loss(logits, batch):
    mask = jnp.arange(T)[None] < batch["lengths"][:, None]
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"])
    return (each * mask).sum() / mask.sum()


def torch_loss(mistake):
    def loss(logits, batch):
        y = batch["y"].long()
        mask = torch.arange(T)[None] < batch["lengths"][:, None]
        if mistake == "loss counts padding":
            return F.cross_entropy(logits.reshape(-1, C), y.reshape(-1))
        if mistake == "loss per sentence":
            each = F.cross_entropy(logits.transpose(1, 2), y, reduction="none")
            return ((each * mask).sum(1) / mask.sum(1)).mean()
        if mistake == "loss divided by all":
            each = F.cross_entropy(logits.transpose(1, 2), y, reduction="none")
            return (each * mask).mean()
        if mistake == "sorted by hand":
            return F.cross_entropy(logits[mask], y[mask])
        y = y.masked_fill(~mask, -100)
        return F.cross_entropy(logits.reshape(-1, C), y.reshape(-1))

    return loss


EQUAL = ("", "sorted by hand", "row by row")


def build(mistake, seed):
    r = rng(seed)
    return dict(
        flax_model=Tagger(),
        torch_module=randomise(TorchTagger(mistake), seed),
        batch={
            "x": r.integers(0, V, size=(5, T)),
            "lengths": np_lengths(),
            "y": r.integers(0, C, size=(5, T)),
        },
        options=dict(
            inputs=("x", "lengths"),
            jax_loss=jax_loss,
            torch_loss=torch_loss(mistake),
            rename={"fwd/cell": "lstm.l0", "bwd/cell": "lstm.l0_reverse"},
        ),
    )


def np_lengths():
    import numpy as np

    return np.array([4, 7, 2, 5, 3])
