"""Likelihood losses: the mean over the batch of -log p(y | x).

A loss here is `loss_fn(batch, key) -> (loss, metrics)`; the parameters are those of the module.

Twin of `jaxprob/objectives/likelihood.py`.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from torch_ref.batches import inputs_of, observed, weighted_mean
from torch_ref.distributions import Distribution, Independent
from torch_ref.nn.apply import call
from torch_ref.objectives.losses import (
    Equivalence,
    binary_cross_entropy,
    cross_entropy,
    likelihood_of,
    mae,
    mse,
    pinball,
    poisson_nll,
)

__all__ = [
    "Equivalence",
    "binary_cross_entropy",
    "cross_entropy",
    "likelihood_of",
    "log_likelihood",
    "log_likelihood_of_batch",
    "mae",
    "mse",
    "negative_log_likelihood",
    "pinball",
    "poisson_nll",
]

LossFn = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, dict[str, Tensor]]]


def log_likelihood(distribution: Distribution, y: Tensor) -> Tensor:
    """Returns log p(y) `[B]` for targets of exactly the predicted shape."""
    expected = distribution.batch_shape + distribution.event_shape
    if y.shape != expected:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected {tuple(expected)}.")
    return distribution.log_prob(y)


def log_likelihood_of_batch(distribution: Distribution, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the log-likelihood of `batch["y"]` with its "mask" and "censored", `[B]`.

    Elements are picked row by row, so what a mask leaves out is never computed with.
    """
    y, mask, censored = batch["y"], observed(batch, "y"), batch.get("censored")
    if mask is None and censored is None:
        return log_likelihood(distribution, y)
    each = distribution.base_dist if isinstance(distribution, Independent) else distribution
    seen = torch.ones_like(y, dtype=torch.bool) if mask is None else mask.bool()
    bound = y.new_zeros(y.shape) if censored is None else censored
    safe = y.where(seen, inner_point(each, y))
    terms = each.log_prob(safe)
    if censored is not None:
        terms = terms.where(bound <= 0, each.survival_function(safe).log())
        terms = terms.where(bound >= 0, each.cdf(safe).log())
    terms = terms.where(seen, terms.new_zeros(()))
    return terms.flatten(len(distribution.batch_shape)).sum(-1) if terms.dim() > 1 else terms


def inner_point(distribution: Distribution, like: Tensor) -> Tensor:
    """Returns an event of any distribution of ours."""
    return like.new_full((), getattr(distribution, "_inside", 0.0))


def negative_log_likelihood(model: nn.Module, inputs: Sequence[str] = ("x",)) -> LossFn:
    """Returns the loss -mean_b log p(y_b | x_b) of a module that returns a distribution.

    Of rows with weights the weighted mean; a loss with a prior takes `mean_over_rows` for it.
    """
    return averaged(model, inputs, weighted_mean)


def averaged(
    model: nn.Module,
    inputs: Sequence[str],
    average: Callable[[Tensor, Mapping[str, Tensor]], Tensor],
) -> LossFn:
    """Returns the likelihood loss with its rows averaged by a function of `batches`."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del key
        prediction = call(model, inputs_of(model, batch, inputs))
        nll = -average(log_likelihood_of_batch(prediction, batch), batch)
        return nll, {"nll": nll}

    return loss_fn
