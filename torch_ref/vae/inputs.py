"""Inputs that are their own targets, some of them missing.

Twin of `jaxprob/vae/inputs.py`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from torch_ref.distributions import Distribution
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["log_likelihood_of_inputs", "observed_inputs", "without_padding"]


def without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Returns sequences with their first step in the place of all padding."""
    if lengths is None:
        return x
    steps = torch.arange(x.shape[1]).expand(len(x), -1)
    at = torch.where(steps < lengths.unsqueeze(-1), steps, 0)
    return x[torch.arange(len(x)).unsqueeze(-1), at]


def observed_inputs(batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the inputs, their padding replaced, with 0 where the mask is False."""
    mask, lengths = batch.get("mask"), batch.get("lengths")
    x = without_padding(batch["x"], lengths)
    return x if mask is None else x.masked_fill(~without_padding(mask.bool(), lengths), 0)


def log_likelihood_of_inputs(p: Distribution, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns log p(x | z) `[B]` of the observed inputs."""
    targets = {"y": observed_inputs(batch)}
    if "mask" in batch:
        targets["mask"] = batch["mask"]
    return log_likelihood_of_batch(p, targets)
