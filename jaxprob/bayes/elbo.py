"""The evidence lower bound of a posterior over weights.

    -ELBO / N = -(1 / S) sum_s mean_b weight_b log p(y_b | x_b, w_s) + kl_weight KL(q || prior) / N

Per row of data: an unbiased estimate, from a minibatch, of the bound divided by the number of rows
N, those rows counting `weight` times. Minimised.

Twin: `torch_ref/bayes/elbo.py`. Source: Blundell et al., "Weight Uncertainty in Neural Networks"
(2015), eq. 2 and section 3.4.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxprob.batches import inputs_of, mean_over_rows
from jaxprob.bayes.forward import VariationalPosterior
from jaxprob.bayes.variational_layers import VariationalLayers
from jaxprob.objectives.annealing import Schedule, follows_step, weight_at
from jaxprob.objectives.likelihood import log_likelihood_of_batch
from jaxprob.objectives.targets import support_check
from jaxprob.requirements import require_count, require_non_negative
from jaxprob.types import Array, Batch, Key, Loss, LossFn, Metrics, Params

__all__ = ["negative_elbo"]


def negative_elbo(
    q: VariationalPosterior | Any,
    num_data: int,
    num_samples: int = 1,
    kl_weight: float | Schedule = 1.0,
    inputs: Sequence[str] = ("x",),
) -> Loss:
    """Returns the loss -ELBO / num_data, in nats a row.

    Args:
      q: The posterior, e.g. `GaussianPosterior`; or a Linen model made of variational layers,
        e.g. `BayesianMLP`.
      num_data: Number of rows N of the whole training set, `len(x_train)` whatever their weights;
        the KL counts once for all of them.
      num_samples: Draws of the weights S for each step.
      kl_weight: Weight of the KL; 1 is Bayes' rule, less is a tempered (cold) posterior. Or a
        schedule, step -> weight, such as `objectives.linear_annealing(1000)`; `training` gives the
        step to the loss.
      inputs: Entries of the batch that the model takes, in order.

    Returns:
      `loss_fn(params, batch, key) -> (loss, metrics)`; metrics hold "nll" (nats a row) and "kl"
      (nats, the whole of it): loss = nll + kl_weight * kl / num_data. Under a schedule "kl_weight"
      is there too, and with a stateful model its new "collections". Rows may carry "weight", how
      often they count ("nll" is the mean over all B rows of weight times -log p), and "mask" and
      "censored" as in `objectives.negative_log_likelihood`. `loss_fn.evaluate` is the same bound
      with the model in its mode of prediction, for validation, at the weight at which a schedule
      ends.

    Raises:
      ValueError: No data, no samples, or a negative weight.
    """
    require_count("negative_elbo", "Write num_data=len(x_train).", num_data=num_data)
    require_count("negative_elbo", num_samples=num_samples)
    require_non_negative("negative_elbo", "Write 1.0 for Bayes' rule.", kl_weight=kl_weight)
    posterior = VariationalLayers(q) if isinstance(q, nn.Module) else q

    def in_mode(train: bool) -> LossFn:
        def loss_fn(params: Params, batch: Batch, key: Key) -> tuple[Array, Metrics]:
            given = inputs_of(getattr(posterior, "model", posterior), batch, inputs)
            out = posterior.forward(params, given, key, num_samples, train)
            terms = log_likelihood_of_batch(out.predictions, batch, num_leading=1)
            nll = -mean_over_rows(terms, batch)
            metrics: Metrics = {"nll": nll, "kl": out.kl}
            weight = weight_at(kl_weight, batch, "negative_elbo", train)
            if callable(kl_weight):
                metrics["kl_weight"] = jnp.asarray(weight)
            if out.collections:
                metrics["collections"] = out.collections
            return nll + weight * out.kl / num_data, metrics

        return loss_fn

    def predict(params: Params, batch: Batch) -> Any:
        model = getattr(posterior, "model", posterior)
        given, key = inputs_of(model, batch, inputs), jax.random.key(0)
        return posterior.forward(params, given, key, 1, False).predictions

    def log_density(params: Params, batch: Batch) -> Array:
        return log_likelihood_of_batch(predict(params, batch), batch, num_leading=1)

    reads = (*inputs, *getattr(getattr(posterior, "model", posterior), "takes", ()))
    check = support_check(predict, log_density, reads=reads)
    return Loss.in_modes(in_mode, follows_step(kl_weight), average="rows", check=check)
