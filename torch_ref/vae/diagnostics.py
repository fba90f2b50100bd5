"""KL of each latent, active units, mutual information.

Twin of `jaxprob/vae/diagnostics.py`, which adds the sentence.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_ref.vae.model import LatentVariableModel
from torch_ref.vae.terms import draw, further_inputs, log_likelihood

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
    model: LatentVariableModel, x: Tensor, key: Tensor, condition: Tensor | None = None
) -> Diagnostics:
    """Measures how much of x `[B, ...]` the latents hold, by one draw for each row."""
    batch, output = draw(model, {"x": x, "condition": condition}, key, 1)
    (q, z, p), further = output, further_inputs(model, batch)
    codes = z[0].unsqueeze(1)  # every code under every row's posterior: [B, B, L]
    of_rows = model.log_densities(q, codes.expand(-1, len(x), -1), *further)[0].sum(-1)
    log_aggregated = torch.logsumexp(of_rows, dim=1) - math.log(len(x))
    information = (of_rows.diagonal() - log_aggregated).mean()
    try:
        kl_per_latent = model.kl_at_draws(output, *further).mean(0)
    except NotImplementedError:
        log_q, log_prior = model.log_densities_of_draws(output, *further)
        kl_per_latent = (log_q - log_prior).mean((0, 1))
    nll, kl = -log_likelihood(p, batch).mean(), kl_per_latent.sum()
    activity = model.code(x, *further).var(0, unbiased=False)
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
