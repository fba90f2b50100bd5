"""Inputs that are their own targets, some of them missing.

Twin of `jaxprob/vae/inputs.py`.
"""

from collections.abc import Mapping

from torch import Tensor

from torch_ref.batches import observed, without_padding
from torch_ref.distributions import Distribution
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["log_likelihood_of_inputs", "observed_inputs"]


def observed_inputs(batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the inputs, their padding replaced, with 0 where the mask is False."""
    mask, lengths = observed(batch, "x"), batch.get("lengths")
    x = without_padding(batch["x"], lengths)
    return x if mask is None else x.masked_fill(~without_padding(mask.bool(), lengths), 0)


def log_likelihood_of_inputs(p: Distribution, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns log p(x | z) `[B]` of the observed inputs."""
    targets = {"y": observed_inputs(batch), "y_observed": observed(batch, "x")}
    return log_likelihood_of_batch(p, targets)
