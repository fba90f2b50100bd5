"""Losses of flows: likelihood of data, reverse divergence to an unnormalised density.

Twin of `jaxprob/flows/losses.py`.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from torch_ref.batches import weighted_mean
from torch_ref.flows.flow import Flow
from torch_ref.objectives.annealing import Schedule, mark_schedules, weight_at
from torch_ref.objectives.likelihood import LossFn

__all__ = ["negative_log_likelihood", "reverse_kl"]


def negative_log_likelihood(model: Flow, event: str = "x", condition: str | None = None) -> LossFn:
    """Returns the loss -mean_b log q(x_b | condition_b)."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del key
        given = batch.get(condition or "condition")
        nll = -weighted_mean(model.log_prob(batch[event], given), batch)
        return nll, {"nll": nll}

    return loss_fn


def reverse_kl(
    model: Flow,
    log_density: Callable[..., Tensor],
    num_samples: int = 256,
    condition: str | None = None,
    weight: float | Schedule = 1.0,
) -> LossFn:
    """Returns the loss E_q[log q(x) - weight log p~(x)] over draws of the flow."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        given = batch.get(condition or "condition")
        x, log_q = model.sample_and_log_prob(key, (num_samples,), given)
        log_p = log_density(x) if given is None else log_density(x, given)
        # a row's own mean over its draws, then the rows by their weights
        rows = {} if given is None else batch
        log_q, log_p = (weighted_mean(terms.mean(0), rows) for terms in (log_q, log_p))
        loss = log_q - weight_at(weight, batch, "reverse_kl", model.training) * log_p
        return loss, {"log_q": log_q, "log_density": log_p}

    mark_schedules(loss_fn, weight)
    return loss_fn
