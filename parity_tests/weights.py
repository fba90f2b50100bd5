"""The same weights on both sides: arrays by Flax's paths, tensors by torch's names.

A path is "layer/kernel", a name "layer.weight"; a kernel is the weight transposed.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

__all__ = ["drawn", "paths", "to_module", "to_params", "to_paths", "to_tensors"]


def drawn(model: Any, *arguments: Any, size: float = 0.4, **given: Any) -> dict[str, np.ndarray]:
    """Returns weights of a Linen model by path, float64, drawn without compiling `init`."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *arguments, **given)["params"]
    rng = np.random.default_rng(7)
    return {
        "/".join(path): size * rng.normal(size=leaf.shape)
        for path, leaf in sorted(flatten_dict(shapes).items())
    }


def to_params(arrays: Mapping[str, Any]) -> dict:
    """Returns the params of a Linen model; what has no "/" in its name is none of them."""
    return unflatten_dict({tuple(path.split("/")): w for path, w in arrays.items() if "/" in path})


def paths(tree: Any) -> dict[str, Any]:
    """Returns the leaves of params by path."""
    return {"/".join(path): leaf for path, leaf in flatten_dict(tree).items()}


def to_tensors(
    arrays: Mapping[str, torch.Tensor], module: torch.nn.Module, prefix: str = ""
) -> dict[str, torch.Tensor]:
    """Returns the weights by the module's names, as functions of the inputs.

    Args:
      arrays: Tensors by path, among others.
      module: Whose names.
      prefix: Start of every name that the paths lack.
    """
    tensors = {}
    for name, _ in module.named_parameters():
        path = name.removeprefix(prefix).replace(".", "/")
        kernel = path.removesuffix("weight") + "kernel"
        tensors[name] = arrays[path] if path in arrays else arrays[kernel].transpose(-1, -2)
    return tensors


def to_module(arrays: Mapping[str, torch.Tensor], module: torch.nn.Module) -> torch.nn.Module:
    """Copies the weights into the module and returns it."""
    tensors = to_tensors(arrays, module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[name])
    return module


def to_paths(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors by Flax's paths; axes of draws or chains, which lead, stay."""
    found = {}
    for name, value in tensors.items():
        path = name.replace(".", "/")
        is_kernel = path.endswith("weight")
        found[path.removesuffix("weight") + "kernel" if is_kernel else path] = (
            value.transpose(-1, -2) if is_kernel else value
        )
    return found
