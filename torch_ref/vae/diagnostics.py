"""KL of each latent, active units, mutual information.

Twin of `jaxprob/vae/diagnostics.py`, which adds the sentence.
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from torch_ref.batches import as_batch
from torch_ref.vae.latents import apply, draw, log_likelihood
from torch_ref.vae.model import LatentVariableModel

__all__ = ["ACTIVE", "Diagnostics", "diagnostics"]

ACTIVE = 0.01


class Diagnostics(NamedTuple):
    """How a model uses its latents, in nats; see the twin."""

    elbo: Tensor
    nll: Tensor
    kl: Tensor
    kl_per_latent: Tensor
    activity: Tensor
    active: Tensor
    active_units: int
    mutual_information: Tensor
    marginal_kl: Tensor


@torch.no_grad()
def diagnostics(
    model: LatentVariableModel,
    x: Tensor | Mapping[str, Tensor],
    key: Tensor,
    given: Mapping[str, Tensor] | None = None,
) -> Diagnostics:
    """Measures how much of x `[B, ...]` the latents hold, by one draw for each row."""
    batch, extra, output = draw(model, as_batch(x, given), key, 1)
    ask = functools.partial(apply, model, extra)
    x, (q, z, p) = batch["x"], output
    codes = z[0].unsqueeze(1)  # every code under every row's posterior: [B, B, L]
    of_rows = ask("log_densities", q, codes.expand(-1, len(x), -1))[0].sum(-1)
    log_aggregated = torch.logsumexp(of_rows, dim=1) - math.log(len(x))
    information = (of_rows.diagonal() - log_aggregated).mean()
    try:
        kl_per_latent = ask("kl_at_draws", output).mean(0)
    except NotImplementedError:
        log_q, log_prior = ask("log_densities_of_draws", output)
        kl_per_latent = (log_q - log_prior).mean((0, 1))
    nll, kl = -log_likelihood(p, batch).mean(), kl_per_latent.sum()
    activity = ask("code", x).var(0, unbiased=False)
    active = activity > ACTIVE
    return Diagnostics(
        -(nll + kl),
        nll,
        kl,
        kl_per_latent,
        activity,
        active,
        int(active.sum()),
        information,
        kl - information,
    )
