"""Optimiser state between optax and torch.optim: moments, buffers and step counts.

Works for every transformation of `jaxprob.optim` (whose states use torch's names) and for the optax
states that mean the same: `mu, nu, nu_max` of Adam, `trace` of SGD's momentum, `nu` of RMSprop.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.interop.correspondence import Link, Tree, correspond
from jaxprob.interop.modules import describe
from jaxprob.interop.transfer import as_array, as_tensor, convert_to_flax, convert_to_torch
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["optimizer_from_torch", "optimizer_to_torch"]

NAMES = {
    "mu": "exp_avg",
    "nu": "exp_avg_sq",
    "nu_max": "max_exp_avg_sq",
    "trace": "momentum_buffer",
    "count": "step",
}
"""optax's names, where torch's differ."""

OF_RMSPROP = {"nu": "square_avg", "mu": "grad_avg"}
"""optax's RMSprop shares the names of Adam."""


def optimizer_to_torch(
    opt_state: Any,
    params: Params,
    module: "torch.nn.Module",
    optimizer: "torch.optim.Optimizer",
    *,
    step: int | None = None,
    rename: Mapping[str, str] | None = None,
) -> "torch.optim.Optimizer":
    """Copies an optax state into a torch optimiser of the same algorithm.

    Args:
      opt_state: State of the transformation, after any number of steps.
      params: The params that it belongs to.
      module: The module whose parameters the optimiser holds. Its weights are not changed.
      optimizer: Optimiser over all trainable parameters of the module; its hyperparameters are
        yours to set.
      step: Steps done; only needed where the optax state does not count them.
      rename: See `to_torch`.

    Returns:
      The same optimiser.

    Raises:
      ValueError: Parameters that do not correspond, a state without moments, or folded biases;
        nothing is written.
    """
    import torch

    tree, links = _trainable_links("optimizer_to_torch", params, module, rename)
    tensors = module.state_dict(keep_vars=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    state: dict[str, dict[str, Any]] = {name: {} for link in links for name in link.torch}
    for name, value, like_params in _fields(opt_state, params):
        if like_params:
            leaves = Tree.of({"params": value}).leaves
            for tensor, array in convert_to_torch(links, Tree(leaves, True), shapes).items():
                state[tensor][name] = as_tensor(array).to(tensors[tensor].device)
        else:
            for entry in state.values():
                entry[name] = torch.tensor(float(value))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    absent = [name for name in state if id(tensors[name]) not in held]
    if absent:
        raise ValueError(
            f"optimizer_to_torch: the optimiser does not hold {', '.join(absent)}; build it from "
            "module.parameters()."
        )
    counts = not isinstance(optimizer, torch.optim.SGD)
    for entry in state.values():
        if step is not None:
            entry["step"] = torch.tensor(float(step))
        if counts and "step" not in entry:
            raise ValueError(
                "optimizer_to_torch: the optax state does not count its steps; pass step=."
            )
        if not counts:
            entry.pop("step", None)
    for name, entry in state.items():
        optimizer.state[tensors[name]] = entry
    return optimizer


def optimizer_from_torch(
    optimizer: "torch.optim.Optimizer",
    module: "torch.nn.Module",
    example: Any,
    params: Params,
    *,
    step: int | None = None,
    rename: Mapping[str, str] | None = None,
) -> Any:
    """Copies a torch optimiser's state into an optax state of the same algorithm.

    Args:
      optimizer: The torch optimiser, after at least one step.
      module: The module whose parameters it holds.
      example: A state with the wanted structure, e.g. `transformation.init(params)`.
      params: Params of the wanted structure.
      step: Steps done; only needed for torch.optim.SGD, which does not count them.
      rename: See `to_torch`.

    Returns:
      A new optax state.

    Raises:
      ValueError: Parameters that do not correspond, fields that torch's state lacks, or folded
        biases.
    """
    tree, links = _trainable_links("optimizer_from_torch", params, module, rename)
    tensors = module.state_dict(keep_vars=True)
    known = {name: optimizer.state.get(tensors[name], {}) for link in links for name in link.torch}

    def field(name: str, value: Any, like_params: bool) -> Any:
        if name == "step" and step is not None:
            return jnp.asarray(step, value.dtype)
        lacking = [tensor for tensor, entry in known.items() if entry.get(name) is None]
        if lacking:
            raise ValueError(
                f"optimizer_from_torch: torch's state has no {name!r} for {', '.join(lacking)}. "
                "Take at least one step first, use the same algorithm on both sides, and give "
                "step= for torch.optim.SGD."
            )
        if not like_params:
            (first, *_) = known.values()
            return jnp.asarray(np.asarray(as_array(first[name])), value.dtype)
        leaves = convert_to_flax(links, tree, lambda tensor: as_array(known[tensor][name]))
        return Tree({path: None for path in leaves}, bare=True).rebuild(leaves)

    return _rebuilt(example, jax.tree.structure(params), field)


def _trainable_links(
    action: str, params: Params, module: "torch.nn.Module", rename: Mapping[str, str] | None
) -> tuple[Tree, list[Link]]:
    described = describe(module)
    trainable = {name: spec for name, spec in described.tensors.items() if spec.trainable}
    tree = Tree.of({"params": params})
    links = correspond(action, tree, described._replace(tensors=trainable), rename)
    folded = [name for link in links if link.rule.gradient_to_flax for name in link.torch]
    if folded:
        raise ValueError(
            f"{action}: {', '.join(folded)} are folded into one bias in Flax; PyTorch keeps a "
            "moment for each, so the states do not correspond. Use the recurrent layers of "
            "jaxprob.nn, which keep both."
        )
    return tree, links


def _is_node(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _torch_name(node: Any, field: str) -> str:
    if "Rms" in type(node).__name__ or "RStdDev" in type(node).__name__:
        return OF_RMSPROP.get(field, NAMES.get(field, field))
    return NAMES.get(field, field)


def _fields(opt_state: Any, params: Params) -> Iterator[tuple[str, Any, bool]]:
    """(torch's name, value, whether it is like params) for every field of the state."""
    structure = jax.tree.structure(params)
    found = False

    def field(name: str, value: Any, like_params: bool) -> Any:
        nonlocal found
        found = True
        fields.append((name, value, like_params))
        return value

    fields: list[tuple[str, Any, bool]] = []
    _rebuilt(opt_state, structure, field)
    if not found:
        raise ValueError(
            "optimizer_to_torch: the optax state holds nothing that torch would keep (plain SGD "
            "has no state)."
        )
    yield from fields


def _rebuilt(node: Any, structure: Any, field: Any) -> Any:
    """Walks tuples and NamedTuples of a state and replaces its fields."""
    if _is_node(node):
        values = {}
        for name, value in zip(node._fields, node, strict=True):
            if value is not None and jax.tree.structure(value) == structure:
                values[name] = field(_torch_name(node, name), value, True)
            elif hasattr(value, "dtype") and jnp.ndim(value) == 0:
                values[name] = field(_torch_name(node, name), value, False)
            else:
                values[name] = _rebuilt(value, structure, field)
        return type(node)(**values)
    if isinstance(node, tuple):
        return tuple(_rebuilt(part, structure, field) for part in node)
    return node
