"""How a loss calls a Linen module that keeps state or behaves otherwise in training.

Trained is one pytree. Of a module whose only collection is "params" that is the params; of one with
batch statistics or other state it is {"params": ..., "collections": {"batch_stats": ...}}, where
"collections" is carried from step to step and is neither differentiated nor given to the optimiser:
a loss returns its new value in the metrics under the same name.

A module says that it distinguishes training from prediction by an argument of its `__call__`:
`train` or `training` (True in training), `deterministic` or `use_running_average` (False in
training). Randomness inside reaches it by its argument `key`, or as Linen's stream "dropout".

Twin: none; a `torch.nn.Module` keeps its own buffers and its own mode.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.batches import Inputs, accepted, inputs_of
from jaxprob.distributions.convert import convert_outputs
from jaxprob.operations.linen import fast_convolutions
from jaxprob.types import Key, Params

__all__ = [
    "as_params",
    "as_variables",
    "average_over_draws",
    "call",
    "hashable",
    "initialize",
    "mode_options",
]

WHEN_TRAINING = {
    "train": True,
    "training": True,
    "deterministic": False,
    "use_running_average": False,
}


def as_params(variables: dict[str, Any]) -> Params:
    """Returns the pytree that is trained, from what `model.init` returns.

    Args:
      variables: Linen's variables, "params" and perhaps other collections.

    Returns:
      The params, or {"params": ..., "collections": ...} if there are other collections.
    """
    others = {name: value for name, value in variables.items() if name != "params"}
    if not others:
        return variables["params"]
    return {"params": variables["params"], "collections": others}


def as_variables(params: Params) -> dict[str, Any]:
    """Returns what `model.apply` takes, from the pytree that is trained."""
    if isinstance(params, Mapping) and "collections" in params:
        return {"params": params["params"], **params["collections"]}
    return {"params": params}


def initialize(model: nn.Module, key: Key, inputs: Inputs | tuple[Any, ...]) -> dict[str, Any]:
    """Returns the variables that a module starts from, as `model.init` in prediction does.

    A module that asks whether it is trained is told that it is not, whatever its own default.
    """
    inputs = inputs_of(model, inputs)
    options = {**inputs.extra, **mode_options(model, False)}
    own = inspect.signature(type(model).__call__).parameters.get("key")
    if own is not None and own.default is own.empty:
        options["key"] = None
    return dict(model.init(key, *inputs.arrays, **options))


def call(
    model: nn.Module,
    variables: dict[str, Any],
    inputs: Inputs | tuple[Any, ...],
    key: Key | None = None,
    train: bool = False,
    method: str = "__call__",
) -> tuple[Any, dict[str, Any]]:
    """Calls a module in the mode that is asked for.

    Args:
      model: Linen module.
      variables: All its collections.
      inputs: Its inputs, in order; with what it takes by name as `Inputs`, of which each method
        gets what it has an argument for.
      key: Randomness inside the module, such as dropout's; used in training only.
      train: Whether this is a step of training.
      method: Which of its methods is called.

    Returns:
      What the module returns, distributions as those of this package, and the new value of its
      collections other than "params" (empty in prediction, or where there are none).
    """
    inputs = inputs_of(model, inputs)
    function = getattr(type(model), method)
    options = {**accepted(function, inputs.extra), **mode_options(model, train, method)}
    if "key" in inspect.signature(function).parameters:
        options["key"] = key if train else None
    options["method"] = method
    mutable = [name for name in variables if name != "params"] if train else []
    if train and key is not None:
        options["rngs"] = {"dropout": key}
    if mutable:
        options["mutable"] = mutable
    with fast_convolutions():
        returned = model.apply(variables, *inputs.arrays, **options)
    output, state = returned if mutable else (returned, {})
    return convert_outputs(output), dict(state)


def mode_options(model: nn.Module, train: bool, method: str = "__call__") -> dict[str, Any]:
    """Returns the arguments by which a method of a module is told whether it is trained."""
    parameters = inspect.signature(getattr(type(model), method)).parameters
    return {name: value is train for name, value in WHEN_TRAINING.items() if name in parameters}


def average_over_draws(collections: dict[str, Any]) -> dict[str, Any]:
    """Returns one value of collections `[S, ...]`: the mean over draws, counters as they are."""
    return jax.tree.map(
        lambda leaf: jnp.mean(leaf, axis=0) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf[0],
        collections,
    )


def hashable(value: Any) -> Any:
    """Returns the same module with lists and arrays as tuples: neither can be part of a jit key."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(hashable(item) for item in value)
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):
        return hashable(value.tolist())
    if not isinstance(value, nn.Module):
        return value
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    frozen = {name: hashable(v) for name, v in fields.items() if name not in ("parent", "name")}
    changed = {name: v for name, v in frozen.items() if v is not fields[name]}
    return value.clone(**changed) if changed else value
