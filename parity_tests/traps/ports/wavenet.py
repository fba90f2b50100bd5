"""WaveNet-like stack: dilated causal convolutions, gated units, residual and skip sums."""

import flax.linen as nn
import jax.numpy as jnp
import torch
import torch.nn.functional as F

from parity_tests.traps.ports.weights import randomise, rng

W = 8


class Block(nn.Module):
    dilation: int

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(2 * W, (2,), kernel_dilation=self.dilation, padding="CAUSAL", name="conv")(x)
        a, b = jnp.split(h, 2, axis=-1)
        h = jnp.tanh(a) * nn.sigmoid(b)
        skip = nn.Conv(W, (1,), name="skip")(h)
        return x + nn.Conv(W, (1,), name="res")(h), skip


class WaveNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = nn.Conv(W, (1,), name="start")(x)
        total = 0.0
        for i in range(3):
            h, skip = Block(2**i, name=f"blocks_{i}")(h)
            total = total + skip
        h = nn.Conv(W, (1,), name="end1")(nn.relu(total))
        return nn.Conv(3, (1,), name="end2")(nn.relu(h))


class TorchBlock(torch.nn.Module):
    def __init__(self, dilation, mistake):
        super().__init__()
        self.mistake, self.dilation = mistake, dilation
        if mistake == "dilation missing":
            self.dilation = dilation = 1
        padding = 0
        if mistake == "pad both, chop":
            padding = dilation
        self.conv = torch.nn.Conv1d(W, 2 * W, 2, dilation=dilation, padding=padding)
        self.skip = torch.nn.Conv1d(W, W, 1)
        self.res = torch.nn.Conv1d(W, W, 1)

    def forward(self, x):
        m = self.mistake
        if m == "pad both, chop":
            h = self.conv(x)[..., : -self.dilation]
        elif m == "padded right":
            h = self.conv(F.pad(x, (0, self.dilation)))
        elif m == "same padding":
            d = self.dilation
            h = self.conv(F.pad(x, (d // 2, d - d // 2)))
        elif m == "replicate padding":
            h = self.conv(F.pad(x, (self.dilation, 0), mode="replicate"))
        else:
            h = self.conv(F.pad(x, (self.dilation, 0)))
        if m == "pad both, chop":
            h = F.glu(torch.cat([torch.tanh(h[:, :W]), h[:, W:]], dim=1), dim=1)
        else:
            a, b = h.chunk(2, dim=1)
            if m == "chunk order":
                a, b = b, a
            if m == "glu without tanh":
                h = F.glu(h, dim=1)
            elif m == "interleaved gates":
                h = torch.tanh(h[:, 0::2]) * torch.sigmoid(h[:, 1::2])
            elif m == "hard sigmoid":
                h = torch.tanh(a) * F.hardsigmoid(b)
            else:
                h = torch.tanh(a) * torch.sigmoid(b)
        skip = self.skip(h)
        res = self.res(h)
        if m == "residual missing":
            return res, skip
        if m == "scaled residual":
            return (x + res) * 0.5**0.5, skip
        return x + res, skip


class TorchWaveNet(torch.nn.Module):
    def __init__(self, mistake):
        super().__init__()
        self.mistake = mistake
        self.start = torch.nn.Conv1d(2, W, 1)
        self.blocks = torch.nn.ModuleList([TorchBlock(2**i, mistake) for i in range(3)])
        self.end1 = torch.nn.Conv1d(W, W, 1)
        self.end2 = torch.nn.Conv1d(W, 3, 1)

    def forward(self, x):
        m = self.mistake
        h = self.start(x.transpose(1, 2))
        skips = []
        for block in self.blocks:
            h, skip = block(h)
            skips.append(skip)
        if m == "last skip only":
            total = skips[-1]
        elif m == "mean of skips":
            total = torch.stack(skips).mean(0)
        elif m == "first skip forgotten":
            total = sum(skips[1:])
        elif m == "pad both, chop":
            total = torch.stack(skips).sum(0)
        else:
            total = sum(skips)
        if m == "relu on the skips missing":
            h = self.end1(total)
        else:
            h = self.end1(F.relu(total))
        return self.end2(F.relu(h)).transpose(1, 2)


EQUAL = ("", "pad both, chop")


def build(mistake, seed):
    r = rng(seed)
    return dict(
        flax_model=WaveNet(),
        torch_module=randomise(TorchWaveNet(mistake), seed),
        batch={"x": r.normal(size=(4, 10, 2))},
        options=dict(rename={f"blocks_{i}": f"blocks.{i}" for i in range(3)}),
    )
