"""Draws of the hidden values of a row given those that were seen.

Twin of `jaxprob/vae/impute.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from torch_ref import random
from torch_ref.batches import as_batch, observed, valid_steps
from torch_ref.vae.average import mean_or_mode
from torch_ref.vae.inputs import inputs_beside, observed_inputs
from torch_ref.vae.latents import Latents, apply, log_weights, noise
from torch_ref.vae.model import LatentVariableModel

__all__ = ["impute"]


@torch.no_grad()
def impute(
    model: LatentVariableModel,
    x: Tensor | Mapping[str, Tensor],
    key: Tensor,
    num: int = 1,
    num_proposals: int = 1,
    mean: bool = False,
    given: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Draws what is missing of x, `[num, B, *event]`."""
    batch = as_batch(x, given)
    keep = observed(batch, "x")
    if keep is None:
        raise ValueError("impute: nothing says what is missing.")
    if "x" in model.decoder_takes:
        raise ValueError(f"impute: the decoder of {type(model).__name__} reads x.")
    whole, keep = batch["x"], keep.bool()
    if batch.get("lengths") is not None:
        padding = ~valid_steps(batch["lengths"], whole.shape[1])
        keep = keep | padding.reshape(padding.shape + (1,) * (keep.ndim - 2))
    batch["x"] = x = observed_inputs(batch)
    extra, rows, drawn = inputs_beside(model, batch), torch.arange(len(whole)), []
    dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    for number in range(num):
        z_key, pick_key, x_key = random.split(random.fold_in(key, number), 3)
        output = model(x, noise(z_key, num_proposals, len(x), model.latent_dim, dtype), **extra)
        log_w = log_weights(model, Latents(batch, extra, output))
        z = output.z[_pick(pick_key, log_w), rows]
        p = apply(model, extra, "decode", z)
        value = mean_or_mode(p) if mean else p.draw(x_key)
        value = value.to(whole) if whole.is_floating_point() else value
        drawn.append(whole.where(keep, value))
    return torch.stack(drawn)


def _pick(key: Tensor, log_w: Tensor) -> Tensor:
    """One of the proposals of each row, by its weight among them."""
    if len(log_w) == 1:
        return log_w.new_zeros(log_w.shape[1], dtype=torch.long)
    return random.categorical(key, log_w.T)
