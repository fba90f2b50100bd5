"""The VQ-VAE: latents are the nearest of K code vectors.

Twin of `jaxprob/vae/vector_quantized.py`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref import random
from torch_ref.batches import valid_steps, weighted_mean
from torch_ref.distributions import Distribution
from torch_ref.objectives.likelihood import LossFn
from torch_ref.vae.inputs import (
    hand_on,
    inputs_beside,
    log_likelihood_of_inputs,
    observed_inputs,
)
from torch_ref.vae.nearest import nearest

__all__ = ["VQVAE", "VQVAEOutput", "revive_codes", "update_codebook", "vq_loss"]

Codebook = dict[str, Tensor]


class VQVAEOutput(NamedTuple):
    """Encodings `[B, *P, C]`, indices `[B, *P]`, code vectors `[B, *P, C]`, and p(x | z)."""

    encodings: Tensor
    indices: Tensor
    quantized: Tensor
    p: Distribution


class VQVAE(nn.Module):
    """Encoder, codebook, decoder; running averages are buffers `codebook.<name>`."""

    takes: tuple[str, ...] = ()
    hands_on_to = ("encoder", "decoder")

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        num_codes: int,
        code_dim: int,
        decay: float | None = 0.99,
    ):
        super().__init__()
        self.encoder, self.decoder, self.decay = encoder, decoder, decay
        first = torch.randn(num_codes, code_dim)
        if decay is None:
            self.codes = nn.Parameter(first)
            return
        self.codebook = nn.Module()
        self.codebook.register_buffer("codes", first)
        self.codebook.register_buffer("counts", torch.ones(num_codes))
        self.codebook.register_buffer("sums", first.clone())

    def forward(self, x: Tensor, **given: Tensor) -> VQVAEOutput:
        """Encodes, quantises and decodes."""
        encodings = self.encode(x, **given)
        indices = self.quantize(encodings)
        quantized = F.embedding(indices, self.code_vectors())
        passed = quantized.detach() + (encodings - encodings.detach())
        return VQVAEOutput(encodings, indices, quantized, hand_on(self.decoder, passed, given))

    def code_vectors(self) -> Tensor:
        """Returns the codes `[K, C]`."""
        return self.codes if self.decay is None else self.codebook.codes

    def encode(self, x: Tensor, **given: Tensor) -> Tensor:
        """Returns the encodings."""
        return hand_on(self.encoder, x, given)

    def quantize(self, encodings: Tensor) -> Tensor:
        """Returns the index of the nearest code."""
        return nearest(encodings, self.code_vectors())

    def decode(self, indices: Tensor, **given: Tensor) -> Distribution:
        """Returns p(x | codes)."""
        return hand_on(self.decoder, self.code_vectors()[indices], given)


def update_codebook(
    codebook: Codebook,
    encodings: Tensor,
    indices: Tensor,
    weight: Tensor | None = None,
    decay: float = 0.99,
    smoothing: float = 1e-5,
) -> Codebook:
    """Returns the codebook after one batch of encodings `[N, C]`."""
    counts, sums = codebook["counts"], codebook["sums"]
    times = torch.ones_like(encodings[:, 0]) if weight is None else weight.to(encodings)
    chose = torch.zeros_like(counts).index_add(0, indices, times)
    sum_of_them = torch.zeros_like(sums).index_add(0, indices, times[:, None] * encodings)
    counts = counts * decay + (1 - decay) * chose
    sums = sums * decay + (1 - decay) * sum_of_them
    share = (counts + smoothing) / (counts + smoothing).sum()
    number = (share * counts.sum()).unsqueeze(1)
    empty = ~(number >= torch.finfo(number.dtype).tiny)
    codes = torch.where(empty, codebook["codes"], sums / number)
    return {"codes": codes, "counts": counts, "sums": sums}


def revive_codes(
    codebook: Codebook,
    encodings: Tensor,
    key: Tensor,
    weight: Tensor | None = None,
    threshold: float = 1.0,
) -> Codebook:
    """Returns the codebook with its unused codes moved onto random encodings."""
    codes, counts, sums = (codebook[name].clone() for name in ("codes", "counts", "sums"))
    weight = torch.ones_like(encodings[:, 0]) if weight is None else weight.to(encodings)
    noise = random.gumbel(key, weight.shape, weight.dtype)
    order = (weight.log() + noise).argsort(descending=True)[: int((weight > 0).sum())]
    unused = (counts < threshold).nonzero().squeeze(1)
    if not len(order):
        return {"codes": codes, "counts": counts, "sums": sums}
    picked = encodings[order.repeat(len(unused) // len(order) + 1)[: len(unused)]]
    codes[unused], counts[unused], sums[unused] = picked, threshold, threshold * picked
    return {"codes": codes, "counts": counts, "sums": sums}


def vq_loss(
    model: VQVAE, commitment: float = 0.25, smoothing: float = 1e-5, revive_below: float = 0.0
) -> LossFn:
    """Returns the loss of a VQ-VAE; it also moves the buffers of the codebook."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x, given = observed_inputs(batch), inputs_beside(model, batch)
        out = model(x, **given)
        nll = -weighted_mean(log_likelihood_of_inputs(out.p, batch), batch)
        valid = torch.ones_like(out.encodings[..., 0])
        if "lengths" in given:
            steps = valid_steps(given["lengths"], x.shape[1]).to(valid)
            valid = valid * steps.reshape(steps.shape + (1,) * (valid.ndim - 2))
        to_code = valid.unsqueeze(-1) * (out.encodings - out.quantized.detach()).square()
        to_code = to_code.flatten(1).sum(-1)
        metrics = {"nll": nll, "commitment": weighted_mean(to_code, batch)}
        loss = nll + commitment * metrics["commitment"]
        if model.decay is None:
            to_encoding = valid.unsqueeze(-1) * (out.encodings.detach() - out.quantized).square()
            loss = loss + weighted_mean(to_encoding.flatten(1).sum(-1), batch)
        encodings, indices = out.encodings.detach().flatten(0, -2), out.indices.flatten()
        weight = valid.flatten()
        if batch.get("weight") is not None:
            weight = weight * batch["weight"].repeat_interleave(len(indices) // len(x))
        times = weight.to(encodings)
        usage = torch.zeros_like(model.code_vectors()[:, 0]).index_add(0, indices, times)
        used = usage[usage > 0] / usage.sum()
        metrics["perplexity"] = torch.exp(-(used * used.log()).sum()).detach()
        if model.decay is not None:
            codebook = dict(model.codebook.named_buffers())
            new = update_codebook(codebook, encodings, indices, weight, model.decay, smoothing)
            if revive_below > 0:
                new = revive_codes(new, encodings, key, weight, revive_below)
            for name, value in new.items():
                codebook[name].copy_(value)
        return loss, metrics

    return loss_fn
