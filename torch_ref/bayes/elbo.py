"""The negative evidence lower bound per row of data.

Twin of `jaxprob/bayes/elbo.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torch_ref.bayes.dense_variational import BayesianMLP, VariationalLayers
from torch_ref.objectives.likelihood import LossFn, log_likelihood, weighted_mean

__all__ = ["negative_elbo"]


def negative_elbo(
    q: nn.Module, num_data: int, num_samples: int = 1, kl_weight: float = 1.0
) -> LossFn:
    """Returns the loss (E_q[-log p(data | w)] + kl_weight KL(q || prior)) / num_data."""
    posterior = VariationalLayers(q) if isinstance(q, BayesianMLP) else q

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        predictions, kl = posterior.forward(batch["x"], key, num_samples)
        terms = [-weighted_mean(log_likelihood(p, batch["y"]), batch) for p in predictions]
        nll = torch.stack(terms).mean()
        return nll + kl_weight * kl / num_data, {"nll": nll, "kl": kl}

    return loss_fn
