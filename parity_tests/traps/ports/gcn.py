"""GCN with an adjacency matrix as input, and a readout."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

N, W = 6, 8


def normalised(adj):
    a = adj + jnp.eye(adj.shape[-1])
    d = a.sum(-1)
    inv = 1.0 / jnp.sqrt(d)
    return inv[..., :, None] * a * inv[..., None, :]


class GCN(nn.Module):
    @nn.compact
    def __call__(self, x, adj):
        a = normalised(adj)
        h = nn.Dense(W, name="embed")(x)
        for i in range(2):
            m = nn.Dense(W, use_bias=False, name=f"conv{i}")(h)
            m = jnp.einsum("bij,bjd->bid", a, m)
            m = m + self.param(f"bias{i}", nn.initializers.zeros, (W,))
            h = h + nn.relu(m)
        edge = nn.Dense(W, name="message")(h)
        h = nn.LayerNorm(epsilon=1e-5, name="norm")(adj @ nn.silu(edge))
        return nn.Dense(3, name="readout")(h.sum(axis=1))


class TorchGCN(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.embed = torch.nn.Linear(4, W)
        self.conv0 = torch.nn.Linear(W, W, bias=False)
        self.conv1 = torch.nn.Linear(W, W, bias=False)
        self.bias0 = torch.nn.Parameter(torch.zeros(W))
        self.bias1 = torch.nn.Parameter(torch.zeros(W))
        self.message = torch.nn.Linear(W, W)
        self.norm = torch.nn.LayerNorm(W)
        self.readout = torch.nn.Linear(W, 3)

    def normalised(self, adj):
        m = self.mistake
        eye = torch.eye(adj.shape[-1], dtype=adj.dtype)
        a = adj if m == "self-loop missing" else adj + eye
        if m == "two self-loops":
            a = a + eye
        if m == "normalisation missing":
            return a
        if m == "degree without self-loop":
            d = adj.sum(-1).clamp(min=1)
        else:
            d = a.sum(-1)
        if m == "row normalised":
            return a / d.unsqueeze(-1)
        if m == "column degree":
            d = a.sum(-2)
        if m == "square root missing":
            return a / (d.unsqueeze(-1) * d.unsqueeze(-2))
        if m == "diag matrices":
            half = torch.diag_embed(d.pow(-0.5))
            return half @ a @ half
        return a / torch.sqrt(d.unsqueeze(-1) * d.unsqueeze(-2))

    def forward(self, x, adj):
        m = self.mistake
        a = self.normalised(adj)
        if m == "transposed adjacency":
            a = a.transpose(-1, -2)
        h = self.embed(x)
        for conv, bias in ((self.conv0, self.bias0), (self.conv1, self.bias1)):
            if m == "aggregate first":
                y = conv(torch.bmm(a, h)) + bias
            elif m == "bias before aggregation":
                y = torch.bmm(a, conv(h) + bias)
            elif m == "bias missing":
                y = torch.bmm(a, conv(h))
            elif m == "max aggregation":
                y = (a.unsqueeze(-1) * conv(h).unsqueeze(1)).amax(dim=2) + bias
            elif m == "diag matrices":
                y = torch.einsum("bij,bjd->bid", a, conv(h)) + bias
            else:
                y = torch.matmul(a, conv(h)) + bias
            h = F.relu(h + y) if m == "relu after the sum" else h + F.relu(y)
        e = F.silu(self.message(h))
        if m == "mean of messages":
            h = torch.bmm(adj / adj.sum(-1, keepdim=True).clamp(min=1), e)
        elif m == "messages along the other axis":
            h = torch.bmm(adj.transpose(1, 2), e)
        elif m == "diag matrices":
            h = (adj.unsqueeze(-1) * e.unsqueeze(1)).sum(2)
        else:
            h = torch.bmm(adj, e)
        h = self.norm(h)
        if m == "mean readout":
            return self.readout(h.mean(dim=1))
        if m == "max readout":
            return self.readout(h.amax(dim=1))
        if m == "sum after readout":
            return self.readout(h).sum(dim=1)
        if m == "diag matrices":
            return self.readout(torch.einsum("bnd->bd", h))
        return self.readout(h.sum(dim=1))


EQUAL = ("", "diag matrices")


def build(mistake, seed):
    r = rng(seed)
    adj = (r.uniform(size=(4, N, N)) < 0.4).astype(float)
    adj[:, np.arange(N), np.arange(N)] = 0
    adj[:, np.arange(N), (np.arange(N) + 1) % N] = 1
    return dict(
        flax_model=GCN(),
        torch_module=randomise(TorchGCN(mistake), seed),
        batch={"x": r.normal(size=(4, N, 4)), "adj": adj},
        options=dict(inputs=("x", "adj")),
    )
