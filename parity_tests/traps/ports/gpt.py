"""GPT-like decoder: fused qkv, hand-written causal attention, tied output, shifted targets."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

V, T, D, H = 13, 7, 12, 3


class Attention(nn.Module):
    heads: int = H

    @nn.compact
    def __call__(self, x):
        b, t, d = x.shape
        qkv = nn.Dense(3 * d, name="qkv")(x)
        q, k, v = jnp.split(qkv, 3, axis=-1)
        q, k, v = (a.reshape(b, t, self.heads, d // self.heads) for a in (q, k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(d // self.heads)
        mask = jnp.tril(jnp.ones((t, t), bool))
        scores = jnp.where(mask, scores, -jnp.inf)
        weights = jax.nn.softmax(scores, axis=-1)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(b, t, d)
        return nn.Dense(d, name="proj")(out)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + Attention(name="attn")(nn.LayerNorm(epsilon=1e-5, name="ln1")(x))
        h = nn.Dense(2 * D, name="fc")(nn.LayerNorm(epsilon=1e-5, name="ln2")(x))
        return x + nn.Dense(D, name="out")(nn.gelu(h))


class GPT(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(V, D, name="wte")
        x = embed(tokens) * math.sqrt(D)
        x = x + nn.Embed(T + 1, D, name="wpe")(jnp.arange(tokens.shape[1]))
        for i in range(2):
            x = Block(name=f"blocks_{i}")(x)
        x = nn.LayerNorm(epsilon=1e-5, name="ln_f")(x)
        return embed.attend(x)


class TorchAttention(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.qkv = torch.nn.Linear(D, 3 * D)
        self.proj = torch.nn.Linear(D, D)
        diagonal = 1 if mistake == "mask shifted" else 0
        self.register_buffer(
            "mask",
            torch.tril(torch.ones(T, T), diagonal=diagonal),
            persistent=mistake == "persistent buffer",
        )

    def forward(self, x):
        m = self.mistake
        b, t, d = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if m == "qk swapped":
            q, k = k, q
        if m == "head split":
            q, k, v = (a.view(b, t, d // H, H).permute(0, 3, 1, 2) for a in (q, k, v))
        else:
            q, k, v = (a.view(b, t, H, d // H).transpose(1, 2) for a in (q, k, v))
        if m == "sdpa":
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.proj(out.transpose(1, 2).reshape(b, t, d))
        scores = q @ k.transpose(-2, -1)
        if m == "full width scale":
            scores = scores / math.sqrt(d)
        elif m != "scale missing":
            scores = scores * (d // H) ** -0.5
        if m == "additive mask":
            scores = scores + torch.triu(torch.full((t, t), -1e9, dtype=x.dtype), diagonal=1)
        elif m == "mask inverted":
            scores = scores.masked_fill(self.mask[:t, :t].T == 0, float("-inf"))
        elif m != "mask missing":
            scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
        if m == "softmax axis":
            scores = scores.masked_fill(scores == float("-inf"), -1e9)
            weights = F.softmax(scores, dim=1)
        else:
            weights = F.softmax(scores, dim=-1)
        out = weights @ v
        if m == "heads not merged":
            return self.proj(out.reshape(b, t, d))
        return self.proj(out.transpose(1, 2).contiguous().view(b, t, d))


class TorchBlock(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.ln1 = torch.nn.LayerNorm(D)
        self.attn = TorchAttention(mistake)
        self.ln2 = torch.nn.LayerNorm(D)
        self.fc = torch.nn.Linear(D, 2 * D)
        self.act = torch.nn.GELU() if mistake == "gelu erf" else torch.nn.GELU("tanh")
        self.out = torch.nn.Linear(2 * D, D)

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.out(self.act(self.fc(self.ln2(x))))


class TorchGPT(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.wte = torch.nn.Embedding(V, D)
        self.wpe = torch.nn.Embedding(T + 1, D)
        self.blocks = torch.nn.ModuleList([TorchBlock(mistake) for _ in range(2)])
        self.ln_f = torch.nn.LayerNorm(D)

    def forward(self, tokens):
        m = self.mistake
        t = tokens.shape[1]
        x = self.wte(tokens)
        if m != "embedding scale":
            x = x * math.sqrt(D)
        if m == "position offset":
            x = x + self.wpe(torch.arange(1, t + 1, device=tokens.device))
        elif m == "sdpa":
            x = x + self.wpe.weight[:t]
        elif m != "position missing":
            x = x + self.wpe(torch.arange(t, device=tokens.device))
        for block in self.blocks:
            x = block(x)
        x = self.ln_f(x)
        return F.linear(x, self.wte.weight) if m != "additive mask" else x @ self.wte.weight.T


def jax_loss(logits, batch):
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], batch["x"][:, 1:])
    return losses.mean()


def torch_loss(mistake):
    def loss(logits, batch):
        x = batch["x"].long()
        if mistake == "targets unshifted":
            return F.cross_entropy(logits.reshape(-1, V), x.reshape(-1))
        a, y = logits[:, :-1].reshape(-1, V), x[:, 1:].reshape(-1)
        if mistake == "additive mask":
            return F.nll_loss(F.log_softmax(a, -1), y)
        if mistake == "sdpa":
            return F.cross_entropy(logits[:, :-1].transpose(1, 2), x[:, 1:])
        if mistake == "loss sum":
            return F.cross_entropy(a, y, reduction="sum")
        return F.cross_entropy(a, y)

    return loss


EQUAL = ("", "sdpa", "additive mask", "persistent buffer")


def build(mistake, seed):
    r = rng(seed)
    return dict(
        flax_model=GPT(),
        torch_module=randomise(TorchGPT(mistake), seed),
        batch={"x": r.integers(0, V, size=(4, T))},
        options=dict(jax_loss=jax_loss, torch_loss=torch_loss(mistake)),
    )
