"""The negative evidence lower bound of a model with latents.

Twin of `jaxprob/vae/elbo.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from torch_ref.batches import weighted_mean
from torch_ref.objectives.annealing import Schedule, mark_schedules, weight_at
from torch_ref.objectives.likelihood import LossFn
from torch_ref.vae.latents import apply, draw, log_likelihood
from torch_ref.vae.model import LatentVariableModel

__all__ = ["negative_elbo"]


def negative_elbo(
    model: LatentVariableModel,
    beta: float | Schedule = 1.0,
    free_bits: float = 0.0,
    num_samples: int = 1,
    analytic_kl: bool = True,
    binarize: bool = False,
) -> LossFn:
    """Returns the loss E_q[-log p(x | z)] + beta sum_j max(free_bits, KL_j)."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen, extra, output = draw(model, batch, key, num_samples, binarize)
        nll = weighted_mean(-log_likelihood(output.p, seen).mean(0), batch)
        if analytic_kl:
            kl = apply(model, extra, "kl_at_draws", output)
        else:
            log_q, log_prior = apply(model, extra, "log_densities_of_draws", output)
            kl = (log_q - log_prior).mean(0)
        per_latent = torch.stack([weighted_mean(column, batch) for column in kl.unbind(-1)])
        metrics = {"nll": nll, "kl": per_latent.sum()}
        weight = weight_at(beta, batch, "negative_elbo", model.training)
        if callable(beta):
            metrics["beta"] = torch.as_tensor(weight)
        if free_bits > 0:
            per_latent = per_latent.clamp_min(free_bits)
        return nll + weight * per_latent.sum(), metrics

    mark_schedules(loss_fn, beta)
    return loss_fn
