"""The evidence lower bound of a posterior over weights.

    -ELBO / N = -(1 / S) sum_s mean_b log p(y_b | x_b, w_s) + kl_weight KL(q || prior) / N

Per row of data: an unbiased estimate, from a minibatch, of the bound divided by the number of rows
N. Minimised.

Twin: `torch_ref/bayes/elbo.py`. Source: Blundell et al., "Weight Uncertainty in Neural Networks"
(2015), eq. 2 and section 3.4.
"""

from typing import Any, Protocol

import distrax
import flax.linen as nn

from jaxprob.bayes.dense_variational import VariationalLayers
from jaxprob.objectives.likelihood import log_likelihood, weighted_mean
from jaxprob.types import Array, ArrayLike, Batch, Key, LossFn, Metrics, Params

__all__ = ["VariationalPosterior", "negative_elbo"]


class VariationalPosterior(Protocol):
    """What `negative_elbo` needs of a posterior."""

    def forward(
        self, params: Params, x: ArrayLike, key: Key, num_samples: int
    ) -> tuple[distrax.Distribution, Array]:
        """Returns predictions with batch shape `[S, B]` and KL(q || prior) in nats."""
        ...


def negative_elbo(
    q: VariationalPosterior | Any,
    num_data: int,
    num_samples: int = 1,
    kl_weight: float = 1.0,
) -> LossFn:
    """Returns the loss -ELBO / num_data, in nats a row.

    Args:
      q: The posterior, e.g. `GaussianPosterior`; or a Linen model made of variational layers,
        e.g. `BayesianMLP`.
      num_data: Number of rows N of the whole training set; the KL counts once for all of them.
      num_samples: Draws of the weights S for each step.
      kl_weight: Weight of the KL; 1 is Bayes' rule, less is a tempered (cold) posterior.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; metrics hold "nll" (nats a row) and "kl"
      (nats, the whole of it): loss = nll + kl_weight * kl / num_data.

    Raises:
      ValueError: No data, no samples, or a negative weight.
    """
    if not num_data >= 1:
        raise ValueError(
            f"negative_elbo: num_data must be the number of rows of the training set, at least 1; "
            f"got {num_data}. Write num_data=len(x_train)."
        )
    if not num_samples >= 1:
        raise ValueError(f"negative_elbo: num_samples must be at least 1; got {num_samples}.")
    if not kl_weight >= 0:
        raise ValueError(
            f"negative_elbo: kl_weight must not be negative; got {kl_weight}. Write 1.0 for "
            "Bayes' rule."
        )
    posterior = VariationalLayers(q) if isinstance(q, nn.Module) else q

    def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
        predictions, kl = posterior.forward(params, batch["x"], key, num_samples)
        nll = -weighted_mean(log_likelihood(predictions, batch["y"], num_leading=1), batch)
        return nll + kl_weight * kl / num_data, {"nll": nll, "kl": kl}

    return loss_fn
