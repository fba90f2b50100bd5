"""Strict two-way copying of weights between a params pytree and a PyTorch module.

Names correspond by path: `a/b/kernel` in Flax is `a.b.weight` in PyTorch, transposed, where `a.b` is
a `torch.nn.Linear`; `layers_3` of a Linen `Sequential` is `3` of a torch one; all other parameters
keep name and layout. Every name must be used exactly once on both sides, every shape and dtype must
agree, and all that does not is listed in one message. Arrays are copied, never shared.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
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
    links = _links(flat, module)
    values = {}
    problems = []
    for link in links:
        value = np.array(flat[link.path])
        value = value.T if link.transposed else value
        target = targets[link.name]
        expected = (tuple(target.shape), str(target.dtype).removeprefix("torch."))
        if (value.shape, str(value.dtype)) != expected:
            problems.append(_mismatch(link, value.shape, value.dtype, *expected))
        values[link.name] = value
    _raise_all("to_torch", problems)
    with torch.no_grad():
        for name, value in values.items():
            targets[name].copy_(torch.from_numpy(np.array(value, order="C")))
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
    problems, values = [], {}
    for link in _links(flat, module):
        value = sources[link.name].detach().cpu().numpy().copy()
        value = value.T if link.transposed else value
        expected = (tuple(flat[link.path].shape), str(np.dtype(flat[link.path].dtype)))
        if (value.shape, str(value.dtype)) != expected:
            problems.append(_mismatch(link, *expected, value.shape, value.dtype))
        values[link.path] = jnp.array(value)
    _raise_all("from_torch", problems)
    return jax.tree.map(lambda leaf: leaf, unflatten_dict(values))


def _links(flat: dict[tuple[str, ...], Any], module: "torch.nn.Module") -> list[Link]:
    """Pairs every path with a parameter name, or raises with all that stay alone."""
    import torch

    names = set(dict(module.named_parameters()))
    links, alone = [], []
    for path in flat:
        owner_path, leaf = _module_path(path[:-1], module), path[-1]
        linear = _is(module, owner_path, torch.nn.Linear)
        transposed = linear and leaf == "kernel"
        name = ".".join((*owner_path, "weight" if transposed else leaf))
        if name in names:
            links.append(Link(path, name, transposed))
        else:
            alone.append(f"{'/'.join(path)} (Flax) has no counterpart {name!r} in the module")
    used = {link.name for link in links}
    alone += [f"{name} (PyTorch) has no counterpart in the params" for name in sorted(names - used)]
    _raise_all("transfer", alone)
    return links


def _module_path(path: tuple[str, ...], module: "torch.nn.Module") -> tuple[str, ...]:
    """Linen's `layers_3` is `3` inside a torch Sequential."""
    import torch

    out: tuple[str, ...] = ()
    for part in path:
        if part.startswith("layers_") and _is(module, out, torch.nn.Sequential):
            part = part.removeprefix("layers_")
        out = (*out, part)
    return out


def _is(module: "torch.nn.Module", path: tuple[str, ...], kind: type) -> bool:
    try:
        return isinstance(module.get_submodule(".".join(path)), kind)
    except AttributeError:
        return False


def _mismatch(link: Link, shape, dtype, torch_shape, torch_dtype) -> str:
    return (
        f"{'/'.join(link.path)} has shape {tuple(shape)} {dtype} in PyTorch's layout, but "
        f"{link.name} has {tuple(torch_shape)} {torch_dtype}"
    )


def _raise_all(action: str, problems: list[str]) -> None:
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(
            f"{action}: {len(problems)} parameters do not correspond; nothing was copied.\n  "
            f"{listed}\nGive both models the same architecture, attribute names and dtype."
        )
