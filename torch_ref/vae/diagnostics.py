"""KL of each latent, active units, mutual information.

Twin of `jaxprob/vae/diagnostics.py`, which adds the sentence.
"""

import functools
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
    weight = batch.get("weight", torch.ones_like(of_rows[0]))
    share = weight / weight.sum()
    log_aggregated = torch.logsumexp(of_rows + share.log(), dim=1)
    information = share @ (of_rows.diagonal() - log_aggregated)
    try:
        kl_per_latent = share @ ask("kl_at_draws", output)
    except NotImplementedError:
        log_q, log_prior = ask("log_densities_of_draws", output)
        kl_per_latent = share @ (log_q - log_prior).mean(0)
    nll, kl = -(log_likelihood(p, batch)[0] @ share), kl_per_latent.sum()
    code = ask("code", x)
    activity = share @ (code - share @ code).square()
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
