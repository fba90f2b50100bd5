"""The negative evidence lower bound per row of data.

Twin of `jaxprob/bayes/elbo.py`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from torch_ref.batches import inputs_of, mean_over_rows
from torch_ref.bayes.gaussian_posterior import GaussianPosterior
from torch_ref.bayes.variational_layers import VariationalLayers
from torch_ref.objectives.annealing import Schedule, mark_schedules, weight_at
from torch_ref.objectives.likelihood import LossFn, log_likelihood_of_batch

__all__ = ["negative_elbo"]


def negative_elbo(
    q: nn.Module,
    num_data: int,
    num_samples: int = 1,
    kl_weight: float | Schedule = 1.0,
    inputs: Sequence[str] = ("x",),
) -> LossFn:
    """Returns the loss (E_q[-log p(data | w)] + kl_weight KL(q || prior)) / num_data.

    A row of the data counts `batch["weight"]` times; `num_data` is the number of rows all the same.
    """
    posterior = q if isinstance(q, GaussianPosterior) else VariationalLayers(q)

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        given = inputs_of(getattr(posterior, "model", posterior), batch, inputs)
        predictions, kl = posterior.forward(given, key, num_samples)
        terms = [-mean_over_rows(log_likelihood_of_batch(p, batch), batch) for p in predictions]
        nll = torch.stack(terms).mean()
        metrics = {"nll": nll, "kl": kl}
        weight = weight_at(kl_weight, batch, "negative_elbo", q.training)
        if callable(kl_weight):
            metrics["kl_weight"] = torch.as_tensor(weight)
        return nll + weight * kl / num_data, metrics

    mark_schedules(loss_fn, kl_weight)
    return loss_fn
