"""Gauss-Newton matrices from the textbook Fisher information of each family.

Twin of `jaxprob/bayes/curvature.py`, which differentiates the divergence instead.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from torch_ref.batches import inputs_of
from torch_ref.distributions import Bernoulli, Categorical, Independent, Normal, Poisson
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["fisher_information", "gauss_newton", "jacobian", "log_likelihood_and_gradient"]

Batch = Mapping[str, Tensor]
Weights = Mapping[str, Tensor]


def parameters(distribution) -> Tensor:
    """Returns the parameters of each row, `[B, E]`."""
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    rows = distribution.batch_shape[0]
    if isinstance(base, Normal):
        return torch.cat([base.loc.reshape(rows, -1), base.scale.reshape(rows, -1)], dim=1)
    if isinstance(base, (Bernoulli, Categorical)):
        return base.logits.reshape(rows, -1)
    if isinstance(base, Poisson):
        return base.rate.reshape(rows, -1)
    raise ValueError(f"no Fisher information of {type(base).__name__} here.")


def fisher_information(distribution) -> Tensor:
    """Returns the Fisher information of `parameters`, `[B, E, E]`."""
    base = distribution.base_dist if isinstance(distribution, Independent) else distribution
    rows = distribution.batch_shape[0]
    if isinstance(base, Categorical):
        p = base.logits.softmax(dim=-1)
        return torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    if isinstance(base, Normal):
        precision = base.scale.reshape(rows, -1) ** -2
        return torch.diag_embed(torch.cat([precision, 2 * precision], dim=1))
    if isinstance(base, Bernoulli):
        p = base.logits.sigmoid().reshape(rows, -1)
        return torch.diag_embed(p * (1 - p))
    return torch.diag_embed(1 / base.rate.reshape(rows, -1))


def jacobian(model: nn.Module, weights: Weights, x: Tensor | Batch) -> dict[str, Tensor]:
    """Returns the derivative of `parameters` towards each weight, `[B, E, *weight]`."""

    def eta(w: Weights) -> Tensor:
        return parameters(torch.func.functional_call(model, dict(w), *inputs_of(model, x)))

    return torch.func.jacrev(eta)(dict(weights))


def gauss_newton(
    model: nn.Module, weights: Weights, batch: Batch, names: Sequence[str], kernels: Sequence[str]
) -> Tensor:
    """Returns sum_n c_n J_n^T F_n J_n over the named weights in the twin's order, `[P, P]`.

    Args:
      model: Module that returns a distribution.
      weights: All its parameters, by name.
      batch: "x", and "weight" if rows count differently.
      names: Weights to take, in order.
      kernels: Those among them that are stored transposed, output-major.
    """
    slopes = jacobian(model, weights, batch)
    with torch.no_grad():
        given = inputs_of(model, batch)
        fisher = fisher_information(torch.func.functional_call(model, dict(weights), *given))
    parts = [slopes[n].transpose(-1, -2) if n in kernels else slopes[n] for n in names]
    j = torch.cat([part.flatten(2) for part in parts], dim=2)
    count = batch.get("weight", torch.ones(len(j), dtype=j.dtype))
    return torch.einsum("b,bep,bef,bfq->pq", count, j, fisher, j)


def log_likelihood_and_gradient(
    model: nn.Module, weights: Weights, batch: Batch
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns log p(y | x, w) in nats over all rows, and its gradient towards each weight."""

    def total(w: Weights) -> Tensor:
        p = torch.func.functional_call(model, dict(w), *inputs_of(model, batch))
        terms = log_likelihood_of_batch(p, batch)
        return (terms * batch["weight"]).sum() if "weight" in batch else terms.sum()

    gradient, value = torch.func.grad_and_value(total)(dict(weights))
    return value, gradient
