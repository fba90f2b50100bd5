"""Inputs that are their own targets, some of them missing.

Twin of `jaxprob/vae/inputs.py`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from torch_ref.batches import accepted, extra_inputs, observed, valid_steps, without_padding
from torch_ref.distributions import Distribution
from torch_ref.objectives.likelihood import log_likelihood_of_batch

__all__ = ["hand_on", "inputs_beside", "log_likelihood_of_inputs", "observed_inputs"]


METHODS = ("forward", "encode", "decode", "prior", "infer", "code", "generate", "sample_prior")


def inputs_beside(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a model takes beside x; an entry for which nobody has an argument is refused."""
    extra = extra_inputs(model, batch)
    functions = [getattr(model, method) for method in METHODS if hasattr(model, method)]
    parts = [getattr(model, part) for part in getattr(model, "hands_on_to", ())]
    functions += [part.forward for part in parts]
    arguments = {name for f in functions for name in inspect.signature(f).parameters}
    for name in extra.keys() - arguments:
        raise ValueError(f"{type(model).__name__} takes {name}, for which it has no argument.")
    return extra


def hand_on(module: nn.Module, x: Tensor, given: Mapping[str, Any]) -> Any:
    """Calls a part of a model with what it has arguments for of what is given."""
    return module(x, **accepted(module.forward, given))


def observed_inputs(batch: Mapping[str, Tensor]) -> Tensor:
    """Returns the inputs, their padding replaced, with 0 where the mask is False."""
    mask, lengths = observed(batch, "x"), batch.get("lengths")
    x = without_padding(batch["x"], lengths)
    if mask is not None and mask.shape != x.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; expected {tuple(x.shape)}.")
    return x if mask is None else x.masked_fill(~without_padding(mask.bool(), lengths), 0)


def log_likelihood_of_inputs(p: Distribution, batch: Mapping[str, Tensor]) -> Tensor:
    """Returns log p(x | z) `[B]` of the observed inputs."""
    x = observed_inputs(batch)
    targets = {"y": x, "y_observed": observed(batch, "x")}
    if batch.get("lengths") is None:
        return log_likelihood_of_batch(p, targets)
    steps = log_likelihood_of_batch(p.base_dist, targets)
    return steps.masked_fill(~valid_steps(batch["lengths"], x.shape[1]), 0.0).sum(-1)
