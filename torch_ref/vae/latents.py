"""Noise, draws of the latents, log p(x | z) and log-weights.

Twin of `jaxprob/vae/latents.py`.
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.batches import Inputs, observed, valid_steps
from torch_ref.distributions import Distribution, Independent
from torch_ref.nn.apply import call
from torch_ref.vae.inputs import inputs_beside, observed_inputs
from torch_ref.vae.model import LatentVariableModel, VAEOutput

__all__ = [
    "Latents",
    "apply",
    "binarize",
    "decoder_inputs",
    "draw",
    "log_likelihood",
    "log_weights",
    "noise",
]


class Latents(NamedTuple):
    """The batch as the model saw it, what it took beside x, and what it returned."""

    batch: dict[str, Tensor]
    extra: dict[str, Tensor]
    output: VAEOutput


def binarize(x: Tensor, key: Tensor) -> Tensor:
    """Draws black or white pixels from grey levels in [0, 1]."""
    if not ((x >= 0.0) & (x <= 1.0)).all():
        raise ValueError("binarize: x must be grey levels in [0, 1].")
    return random.bernoulli(key, x, x.shape).to(x)


def noise(key: Tensor, num_samples: int, rows: int, latent_dim: int, dtype: torch.dtype) -> Tensor:
    """Returns standard normal noise `[S, B, L]`, drawn row by row."""
    return random.normal(key, (rows, num_samples, latent_dim), dtype).movedim(1, 0)


def draw(
    model: LatentVariableModel,
    batch: Mapping[str, Tensor],
    key: Tensor,
    num_samples: int,
    binarized: bool = False,
) -> Latents:
    """Draws S latents for each row and decodes them; missing values enter as 0."""
    eps_key, pixel_key, inner_key = random.split(key, 3)
    x = observed_inputs(batch)
    if binarized and "lengths" in model.takes:
        steps = (binarize(part, random.fold_in(pixel_key, t)) for t, part in enumerate(x.unbind(1)))
        x = torch.stack(list(steps), 1)
    elif binarized:
        x = binarize(x, pixel_key)
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    eps = noise(eps_key, num_samples, x.shape[0], model.latent_dim, dtype)
    extra = inputs_beside(model, batch)
    output = model(x, eps, key=inner_key if model.training else None, **extra)
    return Latents({**batch, "x": x}, extra, output)


def apply(model: LatentVariableModel, extra: Mapping[str, Any], method: str, *arrays: Any) -> Any:
    """Calls a method of a model with what it takes of the extra inputs."""
    return call(model, Inputs(arrays, dict(extra)), method)


def decoder_inputs(
    model: LatentVariableModel, batch: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns what `decode` takes beside z: x too, if each step is given those before."""
    return {**extra, "x": batch["x"]} if "x" in model.decoder_takes else dict(extra)


def log_likelihood(p: Distribution, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns log p(x | z) `[S, B]` of what was observed of `batch["x"]`."""
    x, mask, lengths = batch["x"], observed(batch, "x"), batch.get("lengths")
    expected = p.batch_shape[1:] + p.event_shape
    if x.shape != expected:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected {tuple(expected)}.")
    valid = None if lengths is None else valid_steps(lengths, x.shape[1])
    if mask is None:
        if valid is None:
            return p.log_prob(x)
        return p.base_dist.log_prob(x).masked_fill(~valid, 0.0).sum(-1)
    if valid is not None:
        mask = mask.bool() & valid.reshape(valid.shape + (1,) * (mask.ndim - 2))
    while isinstance(p, Independent):
        p = p.base_dist
    seen = mask.bool()
    terms = p.log_prob(x.where(seen, torch.full_like(x, getattr(p, "_inside", 0.0))))
    return terms.masked_fill(~seen, 0.0).flatten(2).sum(-1)


def log_weights(model: LatentVariableModel, seen: Latents, frozen_q: Any = None) -> Tensor:
    """Returns log p(x, z) - log q(z | x) `[S, B]`, q replaced by a detached one where given."""
    log_q, log_prior = apply(model, seen.extra, "log_densities_of_draws", seen.output)
    if frozen_q is not None:
        frozen = copy.deepcopy(model).requires_grad_(False)
        log_q, _ = apply(frozen, seen.extra, "log_densities", frozen_q, seen.output.z)
    return log_likelihood(seen.output.p, seen.batch) + (log_prior - log_q).sum(-1)
