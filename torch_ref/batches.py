"""What a batch says: extra inputs of a model, ends of sequences, what is missing, weights.

Twin of `jaxprob/batches.py`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Inputs",
    "accepted",
    "as_batch",
    "extra_inputs",
    "inputs_of",
    "mean_over_rows",
    "observed",
    "takes",
    "valid_steps",
    "weighted_mean",
    "weighted_sum",
    "without_padding",
]

Batch = Mapping[str, Any]


class Inputs(NamedTuple):
    """What a module is called with: its inputs in order, and others by name."""

    arrays: tuple[Any, ...]
    extra: dict[str, Any]


def takes(model: nn.Module, *names: str) -> nn.Module:
    """Declares that a module takes entries of the batch by name."""
    model.takes = names  # pyright: ignore[reportArgumentType]
    return model


def inputs_of(model: Any, x: Any, names: Sequence[str] = ("x",)) -> Inputs:
    """Reads what a module is called with from an input, a tuple of them, or a batch."""
    if isinstance(x, Inputs):
        return x
    if isinstance(x, Mapping):
        return Inputs(tuple(x[name] for name in names), extra_inputs(model, x, names))
    return Inputs(x if isinstance(x, tuple) else (x,), {})


def as_batch(x: Any, given: Batch | None = None) -> dict[str, Any]:
    """Returns one batch of an input, or a batch, and of what is given beside it."""
    return {**(x if isinstance(x, Mapping) else {"x": x}), **(given or {})}


def extra_inputs(model: Any, batch: Batch, inputs: Sequence[str] = ("x",)) -> dict[str, Tensor]:
    """Returns the entries that a module names in `takes` and `decoder_takes`.

    Raises:
      ValueError: Lengths or a condition for a module that takes none.
    """
    wanted = {*getattr(model, "takes", ()), *getattr(model, "decoder_takes", ())}
    present = {name for name, value in batch.items() if value is not None}
    unread = (present & {"lengths", "condition"}) - wanted - set(inputs)
    if unread:
        raise ValueError(f"{type(model).__name__} takes no {', '.join(sorted(unread))}.")
    return {name: batch[name] for name in (wanted & present) - set(inputs)}


def accepted(function: Callable, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the entries that a function has an argument for."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(entries)
    return {name: entries[name] for name in entries.keys() & parameters.keys()}


def valid_steps(lengths: Tensor, time: int) -> Tensor:
    """Returns the mask `[B, T]`, True before each sequence's end."""
    return torch.arange(time) < lengths.unsqueeze(-1)


def without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Returns sequences with their first step in the place of all padding."""
    if lengths is None:
        return x
    steps = torch.arange(x.shape[1]).expand(len(x), -1)
    at = torch.where(steps < lengths.unsqueeze(-1), steps, 0)
    return x[torch.arange(len(x)).unsqueeze(-1), at]


def observed(batch: Batch, name: str) -> Tensor | None:
    """Returns where an entry was observed, by its own mask or by "mask"."""
    return next((batch[n] for n in (f"{name}_observed", "mask") if batch.get(n) is not None), None)


def weighted_sum(values: Tensor, batch: Batch) -> Tensor:
    """Returns the sum of `values` `[B]`, weighted by `batch["weight"]` if there."""
    weight = batch.get("weight")
    return values.sum() if weight is None else values @ weight.to(values)


def mean_over_rows(values: Tensor, batch: Batch) -> Tensor:
    """Returns the sum of weight times value of the rows `[B]`, over their number B."""
    return weighted_sum(values, batch) / len(values)


def weighted_mean(values: Tensor, batch: Batch) -> Tensor:
    """Returns the mean of `values` `[B]`, weighted by `batch["weight"]` if there."""
    weight = batch.get("weight")
    if weight is None:
        return values.mean()
    total = weight.sum()
    return (values * weight).sum() / torch.where(total == 0.0, torch.ones_like(total), total)
