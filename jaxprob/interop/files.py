"""Weights on disk: safetensors that either framework loads, never pickle.

A file holds the tensors of one side in that side's layout. Its metadata holds a manifest: which
side wrote it, the path of every tensor, and, where a PyTorch module wrote it, the kind of every
layer, so that JAX can read it without PyTorch.
"""

import json
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors import safe_open
from safetensors.numpy import save as serialise

from jaxprob.interop.correspondence import Tree, correspond
from jaxprob.interop.layouts import rules_for
from jaxprob.interop.modules import Description, Spec, describe
from jaxprob.interop.transfer import as_array, as_tensor, convert_to_flax, convert_to_torch
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["load", "load_for_torch", "save"]

FORMAT = "jaxprob"
VERSION = 1


def save(path: str | os.PathLike, params: "Params | torch.nn.Module") -> None:
    """Writes params, or a PyTorch module's state, to one file.

    The file appears whole or not at all, also when the process is killed while writing.

    Args:
      path: Where to; an existing file is replaced.
      params: Nested dict of arrays, variables `{"params": ..., "batch_stats": ...}`, or a
        `torch.nn.Module`.

    Raises:
      ValueError: A leaf that is not an array, or a dict without leaves.
    """
    if hasattr(params, "state_dict") and hasattr(params, "named_modules"):
        tensors, manifest = _of_module(params)
    else:
        tensors, manifest = _of_params(params)
    data = serialise(tensors, {"format": FORMAT, "jaxprob": json.dumps(manifest)})
    target = pathlib.Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load(
    path: str | os.PathLike,
    example: Params | None = None,
    *,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> Params:
    """Reads params for Flax. PyTorch is not needed, whichever side wrote the file.

    Args:
      path: A file that `save` wrote.
      example: Structure, shapes and dtypes to be found; needed for a module's file, and checked
        for a params file if given.
      rename: For a module's file, see `to_torch`.
      transpose_kernel: For a module's file, see `to_torch`.

    Returns:
      A pytree of JAX arrays.

    Raises:
      ValueError: Not such a file, a structure that differs, or 64-bit arrays without x64.
    """
    tensors, manifest = _read(path)
    _require_x64(path, tensors)
    if manifest["side"] == "flax":
        paths = {name: tuple(parts) for name, parts in manifest["paths"].items()}
        nested = unflatten_dict({paths[n]: jnp.array(value) for n, value in tensors.items()})
        loaded = nested["params"] if manifest["bare"] else nested
        if example is not None:
            _require_equal(path, Tree.of(loaded), Tree.of(example))
        return loaded
    if example is None:
        raise ValueError(
            f"load: {path} was written by a PyTorch module; pass example=, the params (or the "
            "result of jax.eval_shape) that say which structure you want."
        )
    tree = Tree.of(example)
    links = correspond("load", tree, _described(tensors, manifest), rename, transpose_kernel)
    return tree.rebuild(convert_to_flax(links, tree, tensors.__getitem__))


def load_for_torch(
    path: str | os.PathLike,
    module: "torch.nn.Module",
    *,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> "dict[str, torch.Tensor]":
    """Reads a file as the state_dict of a module; the module itself is not changed.

    Args:
      path: A file that `save` wrote, from either side.
      module: The module that shall load it.
      rename: See `to_torch`.
      transpose_kernel: See `to_torch`.

    Returns:
      A state_dict for `module.load_state_dict(..., strict=True)`, on the module's device.

    Raises:
      ValueError: Not such a file, or names, shapes or dtypes that do not correspond.
    """
    tensors, manifest = _read(path)
    current = module.state_dict(keep_vars=True)
    if manifest["side"] == "flax":
        leaves = {tuple(parts): tensors[name] for name, parts in manifest["paths"].items()}
        tree = Tree(leaves, manifest["bare"])
        links = correspond("load_for_torch", tree, describe(module), rename, transpose_kernel)
        shapes = {name: tuple(tensor.shape) for name, tensor in current.items()}
        values = convert_to_torch(links, tree, shapes)
        for names in describe(module).tied:
            known = next(values[name] for name in names if name in values)
            values |= {name: known.copy() for name in names if name not in values}
    else:
        described = describe(module).tensors
        wanted = {name: (spec.shape, spec.dtype) for name, spec in described.items()}
        found = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
        _require_same(path, found, wanted)
        values = tensors
    state = {name: tensor.detach().clone() for name, tensor in current.items()}
    for name, value in values.items():
        state[name] = as_tensor(value).to(state[name].device)
    return state


def _of_params(params: Params) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not isinstance(params, Mapping) or not jax.tree.leaves(params):
        raise ValueError(
            f"save: params must be a nested dict with at least one array; got "
            f"{type(params).__name__}. For a Linen module pass variables['params']."
        )
    tree = Tree.of(params)
    tensors, paths = {}, {}
    for path, leaf in tree.leaves.items():
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise ValueError(f"save: {'/'.join(path)} is a {type(leaf).__name__}, not an array.")
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"save: {'/'.join(path)} is a random key; store jax.random.key_data(key)."
            )
        name = "/".join(path[1:] if tree.bare else path)
        paths[name], tensors[name] = list(path), np.array(leaf, order="C")
    rules = {
        "a/b/kernel": "a.b.weight, transposed for Linear; [*k, i, o] against [o, i, *k] for Conv",
        "a/b/embedding, a/b/scale": "a.b.weight",
        "batch_stats a/b/mean, var": "a.b.running_mean, a.b.running_var",
        "other names": "same name, same layout",
    }
    manifest = {"version": VERSION, "side": "flax", "bare": tree.bare, "paths": paths}
    return tensors, {**manifest, "layout": rules}


def _of_module(module: "torch.nn.Module") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    described = describe(module)
    state = module.state_dict(keep_vars=True)
    tensors = {name: as_array(state[name]) for name in described.tensors}
    shapes = {name: array.shape for name, array in tensors.items()}
    rules = {}
    for layer, kind in described.layers.items():
        prefix = f"{layer}." if layer else ""
        own = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
        rules[layer] = sorted({rule.words for rule in rules_for(kind, {}, own)})
    return tensors, {
        "version": VERSION,
        "side": "torch",
        "layers": described.layers,
        "modules": sorted(described.modules),
        "trainable": [name for name, spec in described.tensors.items() if spec.trainable],
        "tied": described.tied,
        "layout": rules,
    }


def _described(tensors: dict[str, np.ndarray], manifest: dict[str, Any]) -> Description:
    trainable = set(manifest["trainable"])
    return Description(
        layers=manifest["layers"],
        tensors={
            name: Spec(array.shape, array.dtype.name, name in trainable)
            for name, array in tensors.items()
        },
        modules=frozenset(manifest["modules"]),
        tied=tuple(tuple(names) for names in manifest["tied"]),
    )


def _read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if "jaxprob" not in metadata:
            raise ValueError(
                f"{path} has no jaxprob manifest, so the layouts of its layers are unknown. Load "
                "it into its PyTorch module and use interop.from_torch, or write it with "
                "interop.save."
            )
        manifest = json.loads(metadata["jaxprob"])
        if manifest["version"] > VERSION:
            raise ValueError(
                f"{path} was written in version {manifest['version']} of the format; this is "
                f"version {VERSION}. Upgrade jaxprob."
            )
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, manifest


def _require_x64(path: str | os.PathLike, tensors: dict[str, np.ndarray]) -> None:
    wide = [name for name, array in tensors.items() if array.dtype.name in ("float64", "int64")]
    if wide and not jax.config.jax_enable_x64:
        raise ValueError(
            f"load: {path} holds 64-bit arrays ({wide[0]}, ...), which JAX would cut to 32 bits. "
            'Call jax.config.update("jax_enable_x64", True) first.'
        )


def _require_equal(path: str | os.PathLike, found: Tree, example: Tree) -> None:
    def shapes(tree: Tree) -> dict[str, tuple]:
        return {
            "/".join(p): (tuple(leaf.shape), np.dtype(leaf.dtype).name)
            for p, leaf in tree.leaves.items()
        }

    _require_same(path, shapes(found), shapes(example))


def _require_same(path: str | os.PathLike, found: dict, wanted: dict) -> None:
    problems = [
        f"{name}: expected {wanted.get(name, 'nothing')}, the file has {found.get(name, 'nothing')}"
        for name in sorted(set(found) | set(wanted))
        if found.get(name) != wanted.get(name)
    ]
    if problems:
        listed = "\n  ".join(problems)
        raise ValueError(f"{path} holds other weights than asked for:\n  {listed}")
