"""Likelihood losses: the mean over the batch of -log p(y | x).

A loss here is `loss_fn(batch, key) -> (loss, metrics)`; the parameters are those of the module.

Twin of `jaxprob/objectives/likelihood.py`.
"""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from torch_ref.distributions import Distribution

__all__ = ["log_likelihood", "negative_log_likelihood", "weighted_mean"]

LossFn = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, dict[str, Tensor]]]


def log_likelihood(distribution: Distribution, y: Tensor) -> Tensor:
    """Returns log p(y) `[B]` for targets of exactly the predicted shape."""
    expected = distribution.batch_shape + distribution.event_shape
    if y.shape != expected:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected {tuple(expected)}.")
    return distribution.log_prob(y)


def weighted_mean(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the mean of `values` `[B]`, weighted by `batch["weight"]` if there."""
    weight = batch.get("weight")
    return values.mean() if weight is None else (values * weight).sum() / weight.sum()


def negative_log_likelihood(model: nn.Module) -> LossFn:
    """Returns the loss -mean_b log p(y_b | x_b) of a module that returns a distribution."""

    def loss_fn(batch: Mapping[str, Tensor], key: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        del key
        nll = -weighted_mean(log_likelihood(model(batch["x"]), batch["y"]), batch)
        return nll, {"nll": nll}

    return loss_fn
