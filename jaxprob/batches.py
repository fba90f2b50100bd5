"""What a batch says: what a model takes, where sequences end, what is missing, how rows count.

A batch is a dict of arrays with leading axis B:

    "x", "y"        what is read, what is predicted
    "lengths"       valid steps of each sequence [B]; what stands behind the end is padding
    "x_observed"    True where a value of x was observed, of its shape; "y_observed" that of y.
                    "mask" is the short name of the one that a loss asks for
    "weight"        how often a row counts [B]

A model names what it takes beside its inputs, and gets it by name:

    class Tagger(nn.Module):
        takes = ("lengths",)
        def __call__(self, x, lengths=None): ...

Such an entry must be there unless the model has a default for it. A model with a decoder may name
entries for that one alone: `decoder_takes = ("x",)`.

Twin: `torch_ref/batches.py`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.constraints import Constraint
from jaxprob.distributions.validation import check_values
from jaxprob.types import AnyArray, Array, Batch, summary

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

METHODS = ("__call__", "encode", "decode", "prior")
"""Methods whose arguments say whether an entry may be left out."""

REFUSED = {
    "lengths": "It would read the padding. Leave the lengths out, or declare a model that masks by "
    'batches.takes(model, "lengths").',
    "condition": "Leave it out, or use a conditional model.",
}
"""Entries that change what an answer means, so that no model may overlook them."""


class Inputs(NamedTuple):
    """What a model is called with.

    Attributes:
      arrays: Its inputs, in order.
      extra: What it takes beside them, by name.
    """

    arrays: tuple[Any, ...]
    extra: dict[str, Any]

    def __repr__(self) -> str:
        return summary("Inputs", **self._asdict())

    def on_device(self) -> "Inputs":
        """Returns the same as JAX's arrays, where they came from NumPy or as lists."""
        extra = {name: jnp.asarray(value) for name, value in self.extra.items()}
        return Inputs(tuple(map(jnp.asarray, self.arrays)), extra)


def takes(model: nn.Module, *names: str) -> nn.Module:
    """Returns the same model, declared to take entries of the batch by name.

        takes(nn.Sequential([GRUEncoder(64), heads.NormalHead()]), "lengths")

    For a model whose class does not say so itself; an `nn.Sequential` hands what it is given by
    name to its first layer.

    Args:
      model: Linen module; its params stay where they are.
      *names: Entries of the batch.
    """
    kind = getattr(type(model), "_undeclared", type(model))
    own = [f.name for f in dataclasses.fields(model) if f.init and f.name != "parent"]
    names = tuple(dict.fromkeys((*getattr(model, "takes", ()), *names)))
    return _made(kind, names, {name: getattr(model, name) for name in own})


def _made(kind: type, names: tuple[str, ...], fields: dict[str, Any]) -> nn.Module:
    return _declared(kind, names)(**fields)


@functools.cache
def _declared(kind: type, names: tuple[str, ...]) -> type:
    """One class for each declaration: a model of a new class would be compiled anew."""

    def reduced(model: nn.Module) -> tuple:
        own = [f.name for f in dataclasses.fields(model) if f.init and f.name != "parent"]
        return _made, (kind, names, {name: getattr(model, name) for name in own})

    entries = {"takes": names, "_undeclared": kind, "__reduce__": reduced}
    return type(kind.__name__, (kind,), {**entries, "__module__": kind.__module__})


def inputs_of(model: Any, x: Any, names: Sequence[str] = ("x",)) -> Inputs:
    """Reads what a model is called with.

    Args:
      model: What is called; its `takes` name the extra inputs.
      x: Its input `[B, ...]`, a tuple of several, or a batch, which holds the extra inputs too.
      names: Entries of the batch that are the inputs, in order.

    Raises:
      ValueError: An entry that the model needs and the batch lacks, or one of other rows.
    """
    if isinstance(x, Inputs):
        return x
    if not isinstance(x, Mapping):
        if not isinstance(x, tuple):
            _require_all(model, [n for n in _names(model) if n not in names], {})
        return Inputs(x if isinstance(x, tuple) else (x,), {})
    for name in names:
        if name not in x:
            raise ValueError(
                f'{_name(model)} takes batch["{name}"], which is not there; the batch holds '
                f"{', '.join(map(repr, x))}."
            )
    return Inputs(tuple(x[name] for name in names), extra_inputs(model, x, names))


def as_batch(x: Any, given: Batch | None = None) -> dict[str, Any]:
    """Returns one batch of an input `[B, ...]`, or a batch, and of what is given beside it."""
    batch = {**(x if isinstance(x, Mapping) else {"x": x}), **(given or {})}
    return {**batch, "x": jnp.asarray(batch["x"])}


def extra_inputs(model: Any, batch: Batch, inputs: Sequence[str] = ("x",)) -> dict[str, Array]:
    """Returns what a model takes beside its inputs, by name.

    Args:
      model: Its `takes` and `decoder_takes` are the names.
      batch: Arrays with leading axis B.
      inputs: Entries that are its inputs.

    Raises:
      ValueError: An entry that the model needs and the batch lacks, one of other rows, or lengths
        or a condition for a model that takes none.
    """
    names = [n for n in _names(model) if n not in inputs]
    for name, fix in REFUSED.items():
        if batch.get(name) is not None and name not in (*names, *inputs):
            raise ValueError(f'{_name(model)} takes no {name}, but batch["{name}"] is there. {fix}')
    extra = {n: jnp.asarray(batch[n]) for n in names if batch.get(n) is not None}
    _require_all(model, names, extra)
    first = next((batch[n] for n in inputs if batch.get(n) is not None), None)
    rows = {n: jnp.shape(v)[:1] for n, v in extra.items()}
    expected = next(iter(rows.values()), ()) if first is None else jnp.shape(first)[:1]
    for name, got in rows.items():
        vectors = name == "condition"
        if got != expected or (vectors and extra[name].ndim < 2):
            raise ValueError(
                f"{_name(model)}: {name} has shape {extra[name].shape}; expected "
                f"{'[B, C]' if vectors else '[B, ...]'}, one row for each of x, B = "
                f"{expected[0] if expected else 1}."
                + (" Write classes as jax.nn.one_hot(y, C)." if vectors else "")
            )
    return extra


def accepted(function: Callable, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the entries that a function has an argument for."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return dict(entries)
    return {name: value for name, value in entries.items() if name in parameters}


def _names(model: Any) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys((*getattr(model, "takes", ()), *getattr(model, "decoder_takes", ())))
    )


def _require_all(model: Any, names: Sequence[str], extra: Mapping[str, Any]) -> None:
    for name in names:
        if name not in extra and _needs(model, name):
            raise ValueError(
                f'{_name(model)} needs a {name}: batch["{name}"] [B, ...]. Give a batch, {{"x": x, '
                f'"{name}": ...}}.'
            )


def _needs(model: Any, name: str) -> bool:
    """Whether some method has an argument of that name without a default."""
    while hasattr(model, "wrapped") or isinstance(model, nn.Sequential):
        model = model.layers[0] if isinstance(model, nn.Sequential) else model.wrapped
    for method in METHODS:
        function = getattr(type(model), method, None)
        found = None if function is None else inspect.signature(function).parameters.get(name)
        if found is not None and found.default is found.empty:
            return True
    return False


def _name(model: Any) -> str:
    return type(model).__name__


def valid_steps(owner: str, lengths: AnyArray, batch: int, time: int, least: int = 0) -> Array:
    """Returns the mask `[B, T]`, True before each sequence's end.

    Args:
      owner: Who asks, for messages.
      lengths: Valid steps of each sequence `[B]`.
      batch: Number of sequences B.
      time: Steps T, padding and all.
      least: Smallest length that is allowed.

    Raises:
      ValueError: Lengths of another shape, that are no integers, or not from `least` to T.
    """
    lengths = lengths if hasattr(lengths, "dtype") else np.asarray(lengths)  # lists too
    if jnp.shape(lengths) != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(
            f"{owner}: lengths must be integers [B] with B = {batch}; got shape {lengths.shape} "
            f"and dtype {lengths.dtype}."
        )
    allowed = Constraint(
        f"between {least} and T = {time}, the time steps of x",
        lambda value, xp: (value >= least) & (value <= time),
        "Clip them, or pad x further.",
    )
    check_values(owner, "lengths", lengths, allowed)
    return jnp.arange(time)[None] < jnp.asarray(lengths)[:, None]


def without_padding(x: AnyArray, lengths: AnyArray | None, owner: str = "lengths") -> Array:
    """Returns sequences `[B, T, ...]` with their first step in the place of all padding.

    It is an event like any other: what is computed there is finite, and is then left out.

    Raises:
      ValueError: Lengths of another shape, or outside of [1, T].
    """
    x = jnp.asarray(x)
    if lengths is None:
        return x
    if x.ndim < 2:
        raise ValueError(f"{owner}: x must be [B, T, ...] to have lengths; got shape {x.shape}.")
    valid = valid_steps(owner, lengths, *x.shape[:2], least=1)
    return jnp.where(valid.reshape(*valid.shape, *[1] * (x.ndim - 2)), x, x[:, :1])


def observed(batch: Batch, name: str) -> Any:
    """Returns where `batch[name]` was observed, of its shape, or None for everywhere.

    Args:
      batch: Its entry f"{name}_observed", or "mask", says so.
      name: "x" or "y", whichever the loss is about.
    """
    own = batch.get(f"{name}_observed")
    return batch.get("mask") if own is None else own


def weighted_sum(values: Array, batch: Batch) -> Array:
    """Returns the sum of `values` `[B]`, each row counting `batch["weight"]` times if there."""
    if batch.get("weight") is None:
        return jnp.sum(values)
    return jnp.sum(values * _weights(values, batch))


def mean_over_rows(values: Array, batch: Batch) -> Array:
    """Returns the mean over rows of weight times value, of `values` `[..., B]`.

        1/B sum_b weight_b value_b

    N times the mean over a batch of B rows estimates the weighted sum over N rows without bias, and
    means over parts of a data set add up by their numbers of rows. Divided is by all rows: one of
    weight 0 is a row of the batch, and one of the N. So losses with a prior weigh their rows; the
    scale of the likelihood against the prior is that of a data set in which a row stands `weight`
    times.
    """
    if batch.get("weight") is None:
        return jnp.mean(values)
    return jnp.mean(values * _weights(values, batch).reshape((1,) * (values.ndim - 1) + (-1,)))


def weighted_mean(values: Array, batch: Batch) -> Array:
    """Returns the mean of `values` `[..., B]`, its rows weighted by `batch["weight"]` if there.

    Of a loss without a prior, whose scale says nothing. Rows of weight 0 add nothing as long as
    their values are finite, and a batch of them alone has a mean of 0, as has its gradient.
    """
    if batch.get("weight") is None:
        return jnp.mean(values)
    weight = _weights(values, batch)
    total = jnp.sum(weight)
    shares = (weight / jnp.where(total == 0.0, 1.0, total)).reshape(
        (1,) * (values.ndim - 1) + (-1,)
    )
    return jnp.mean(jnp.sum(values * shares, axis=-1))


def _weights(values: Array, batch: Batch) -> Array:
    weight = jnp.asarray(batch["weight"], values.dtype)
    if weight.shape != values.shape[-1:]:
        raise ValueError(
            f'batch["weight"] has shape {weight.shape}; expected one weight for each row, '
            f"{values.shape[-1:]}."
        )
    return weight
