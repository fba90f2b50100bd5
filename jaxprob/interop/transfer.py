"""Strict two-way copying of weights between a params pytree and a PyTorch module.

Names correspond by path: `a/b/kernel` in Flax is `a.b.weight` in PyTorch, transposed, where `a.b`
is a `torch.nn.Linear`; `layers_3` of a Linen `Sequential` is `3` of a torch one; all other
parameters keep name and layout. Every name must be used exactly once on both sides, every shape and
dtype must agree, and all that does not is listed in one message. Arrays are copied, never shared.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "to_torch"]


class Link(NamedTuple):
    """One parameter on both sides.

    Attributes:
      path: Path in the params pytree.
      name: Name in the module's `named_parameters`.
      transposed: Whether one is the transpose of the other.
    """

    path: tuple[str, ...]
    name: str
    transposed: bool


def to_torch(params: Params, module: "torch.nn.Module") -> "torch.nn.Module":
    """Copies params into a module.

    Args:
      params: Nested dict of arrays.
      module: Module with the same architecture; its parameters are overwritten.

    Returns:
      The same module.

    Raises:
      ValueError: Names, shapes or dtypes that do not correspond, all listed; nothing is written.
    """
    import torch

    flat = flatten_dict(params)
    targets = dict(module.named_parameters())
    values = {}
    for link in _links("to_torch", flat, module):
        value = np.array(flat[link.path])
        value = value.T if link.transposed else value
        values[link.name] = torch.from_numpy(np.array(value, order="C"))
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(value)
    return module


def from_torch(module: "torch.nn.Module", example: Params) -> Params:
    """Copies a module's parameters into a params pytree.

    Args:
      module: The module.
      example: Pytree with the wanted structure, shapes and dtypes (arrays, or what
        `jax.eval_shape` returns); its values are not used.

    Returns:
      A new pytree of JAX arrays.

    Raises:
      ValueError: Names, shapes or dtypes that do not correspond, all listed.
    """
    flat = flatten_dict(example)
    sources = dict(module.named_parameters())
    values = {}
    for link in _links("from_torch", flat, module):
        value = sources[link.name].detach().cpu().numpy().copy()
        values[link.path] = jnp.array(value.T if link.transposed else value)
    return unflatten_dict(values)


def _links(action: str, flat: dict[tuple[str, ...], Any], module: "torch.nn.Module") -> list[Link]:
    """Pairs every path with a parameter, or raises with all that do not correspond."""
    import torch

    unused = dict(module.named_parameters())
    links, problems = [], []
    for path, leaf in flat.items():
        owner_path = _module_path(path[:-1], module)
        transposed = path[-1] == "kernel" and _is(module, owner_path, torch.nn.Linear)
        name = ".".join((*owner_path, "weight" if transposed else path[-1]))
        parameter = unused.pop(name, None)
        if parameter is None:
            problems.append(f"{'/'.join(path)} (Flax) has no counterpart {name!r} in the module")
            continue
        links.append(Link(path, name, transposed))
        shape = tuple(leaf.shape[::-1] if transposed else leaf.shape)
        wanted = f"{shape} {np.dtype(leaf.dtype)}"
        found = f"{tuple(parameter.shape)} {str(parameter.dtype).removeprefix('torch.')}"
        if wanted != found:
            problems.append(
                f"{'/'.join(path)} (Flax) is {wanted} in PyTorch's layout, but {name} is {found}"
            )
    problems += [f"{name} (PyTorch) has no counterpart in the params" for name in sorted(unused)]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{action}: {len(problems)} parameters do not correspond; nothing was copied.\n  "
            f"{listed}\nGive both models the same architecture, attribute names and dtype."
        )
    return links


def _module_path(path: tuple[str, ...], module: "torch.nn.Module") -> tuple[str, ...]:
    """Linen's `layers_3` is `3` inside a torch Sequential."""
    import torch

    out: tuple[str, ...] = ()
    for part in path:
        # also inside the name of a group of weights, "layers_1/hidden_0"
        plain = "/".join(piece.removeprefix("layers_") for piece in part.split("/"))
        if not _is(module, (*out, part), torch.nn.Module) and _is(
            module, (*out, plain), torch.nn.Module
        ):
            part = plain
        out = (*out, part)
    return out


def _is(module: "torch.nn.Module", path: tuple[str, ...], kind: type) -> bool:
    try:
        return isinstance(module.get_submodule(".".join(path)), kind)
    except AttributeError:
        return False
