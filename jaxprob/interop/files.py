"""Weights on disk: safetensors that either framework loads, never pickle.

A file holds the tensors of one side in that side's layout. Its metadata holds a manifest: which
side wrote it, the path of every tensor, and, where a PyTorch module wrote it, the kind of every
layer, so that JAX can read it without PyTorch (`payload` has the file itself).

Any pytree of arrays can be kept as well, such as the state of a posterior or of an optimiser: named
tuples, dataclasses, tuples, lists and None. The file holds arrays and no code: classes other than
the named tuples of jaxprob and optax need an example of the structure when they are loaded.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict

from jaxprob.interop.correspondence import Tree, correspond
from jaxprob.interop.kept import contents_of, rebuild, require_model, structure_of, versions
from jaxprob.interop.layouts import rules_for
from jaxprob.interop.modules import Description, Spec, describe
from jaxprob.interop.payload import DTYPES, FAULTS, VERSION, add, damaged, read, write
from jaxprob.interop.transfer import as_array, as_tensor, convert_to_flax, convert_to_torch
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["load", "load_for_torch", "save"]

WIDE = ("float64", "int64", "uint64")


def save(path: str | os.PathLike, params: "Params | torch.nn.Module", *, model: Any = None) -> None:
    """Writes params, a PyTorch module's state, or any pytree of arrays to one file.

    The file appears whole or not at all, also when the process is killed while writing. It gets the
    mode of the file that it replaces, or that of any new file.

    Args:
      path: Where to; an existing file is replaced.
      params: Nested dict of arrays, variables `{"params": ..., "batch_stats": ...}`, a
        `torch.nn.Module`, or another pytree of arrays, such as the state of a `bayes.Laplace` or of
        an optimiser. `load` makes the named tuples of jaxprob and optax again; for other classes it
        needs an example.
      model: The model (or the posterior: `bayes.Laplace(...)`, ...) that the arrays belong to. Its
        description is kept, and `load(..., model=)` refuses another one.

    Raises:
      ValueError: A leaf that is not an array or of a dtype that safetensors lacks, two leaves that
        would get one name, or a tree without leaves.
    """
    if hasattr(params, "state_dict") and hasattr(params, "named_modules"):
        tensors, manifest = _of_module(params)
    elif _is_nested_dict(params):
        tensors, manifest = _of_params(params)
    else:
        tensors, manifest = _of_pytree(params)
    if model is not None:
        manifest["model"] = contents_of(model)
    write(path, tensors, manifest | {"versions": versions()})


def load(
    path: str | os.PathLike,
    example: Params | None = None,
    *,
    model: Any = None,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
) -> Params:
    """Reads params for Flax. PyTorch is not needed, whichever side wrote the file.

    Args:
      path: A file that `save` wrote.
      example: Structure, shapes and dtypes to be found; needed for the file of a module or of a
        pytree of unknown classes, and checked otherwise if given. Arrays, or what `jax.eval_shape`
        returns.
      model: The model, or the posterior, that `save` was given; another one is refused.
      rename: For a module's file, see `to_torch`.
      transpose_kernel: For a module's file, see `to_torch`.

    Returns:
      A pytree of JAX arrays.

    Raises:
      ValueError: Not such a file, a damaged one, a structure or a model that differs, or 64-bit
        arrays without x64.
    """
    tensors, manifest = read(path)
    _require_manifest(path, tensors, manifest)
    require_model(path, manifest, model)
    _require_x64(path, tensors)
    if manifest["side"] == "flax":
        paths = {name: tuple(parts) for name, parts in manifest["paths"].items()}
        flat = {paths[n]: jnp.array(value) for n, value in tensors.items()}
        empty = {tuple(parts): empty_node for parts in manifest.get("empty", [])}
        try:
            nested = unflatten_dict(flat | empty)
            loaded = nested["params"] if manifest["bare"] else nested
        except FAULTS as error:  # a leaf above another, in a file without a hash
            raise ValueError(damaged(path, "its manifest makes no tree")) from error
        if example is not None:
            _require_equal(path, Tree.of(loaded), Tree.of(example))
        return loaded
    if manifest["side"] == "pytree":
        return _pytree(path, tensors, manifest, example)
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
    tensors, manifest = read(path)
    _require_manifest(path, tensors, manifest)
    if manifest["side"] == "pytree":
        raise ValueError(
            f"load_for_torch: {path} holds a pytree that is no nested dict of params; no module "
            "corresponds to it. Read it with interop.load(path, example)."
        )
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


def _is_nested_dict(params: Any) -> bool:
    """Dicts with names as keys, down to the leaves, none of which is None."""
    if not isinstance(params, Mapping):
        return False
    return all(
        isinstance(key, str)
        and (_is_nested_dict(value) if isinstance(value, Mapping) else _is_leaf(value))
        for key, value in params.items()
    )


def _is_leaf(value: Any) -> bool:
    return value is not None and jax.tree.structure(value).num_nodes == 1


def _of_pytree(params: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    leaves = jax.tree.leaves_with_path(params)
    if not leaves:
        raise ValueError(
            f"save: params must hold at least one array; got {type(params).__name__}. For a Linen "
            "module pass variables['params']."
        )
    tensors: dict[str, np.ndarray] = {}
    for path, leaf in leaves:
        add(tensors, jax.tree_util.keystr(path), leaf)
    structure = str(jax.tree.structure(params))
    manifest = {"version": VERSION, "side": "pytree", "structure": structure}
    return tensors, manifest | {"structure_of": structure_of(params)}


def _pytree(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], manifest: dict[str, Any], example: Any
) -> Any:
    if example is None:
        if manifest.get("structure_of") is None:
            raise ValueError(
                f"load: {path} holds a pytree that is no nested dict; pass example=, a value of "
                "the same structure (or the result of jax.eval_shape) to say which classes it is "
                "made of."
            )
        example = rebuild(path, manifest)
        leaves = [jax.tree_util.keystr(at) for at, _ in jax.tree.leaves_with_path(example)]
        if sorted(leaves) != sorted(tensors):
            raise ValueError(damaged(path, "its arrays are not those of its structure"))
    else:
        named = [(jax.tree_util.keystr(at), x) for at, x in jax.tree.leaves_with_path(example)]
        wanted = {n: (tuple(leaf.shape), np.dtype(leaf.dtype).name) for n, leaf in named}
        found = {name: (array.shape, array.dtype.name) for name, array in tensors.items()}
        _require_same(path, found, wanted)
        leaves = [name for name, _ in named]
    values = [jnp.array(tensors[name]) for name in leaves]
    return jax.tree.unflatten(jax.tree.structure(example), values)


def _of_params(params: Params) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not jax.tree.leaves(params):
        raise ValueError(
            f"save: params must hold at least one array; got {type(params).__name__} without any. "
            "For a Linen module pass variables['params']."
        )
    tree = Tree.of(params)
    tensors: dict[str, np.ndarray] = {}
    paths = {}
    for path, leaf in tree.leaves.items():
        name = "/".join(path[1:] if tree.bare else path)
        add(tensors, name, leaf)
        paths[name] = list(path)
    kept = flatten_dict({"params": params} if tree.bare else params, keep_empty_nodes=True)
    empty = [list(path) for path, leaf in kept.items() if leaf is empty_node]
    rules = {
        "a/b/kernel": "a.b.weight, transposed for Linear; [*k, i, o] against [o, i, *k] for Conv",
        "a/b/embedding, a/b/scale": "a.b.weight",
        "batch_stats a/b/mean, var": "a.b.running_mean, a.b.running_var",
        "other names": "same name, same layout",
    }
    manifest = {"version": VERSION, "side": "flax", "bare": tree.bare, "paths": paths}
    return tensors, {**manifest, "empty": empty, "layout": rules}


def _of_module(module: "torch.nn.Module") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    described = describe(module)
    state = module.state_dict(keep_vars=True)
    tensors: dict[str, np.ndarray] = {}
    for name, spec in described.tensors.items():
        if spec.dtype not in DTYPES:
            raise ValueError(
                f"save: {name} is torch.{spec.dtype}, which NumPy or safetensors cannot read back. "
                f"Convert it first, to one of {', '.join(sorted(DTYPES))}."
            )
        add(tensors, name, as_array(state[name]))
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


def _require_manifest(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], manifest: dict[str, Any]
) -> None:
    """A manifest whose entries are what `save` writes; files of version 1 have no hash."""

    def texts(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(part, str) for part in value)

    def lists(value: Any) -> bool:
        return isinstance(value, list) and all(texts(part) for part in value)

    side, layers, whole = manifest.get("side"), manifest.get("layers"), False
    if side == "flax":
        paths = manifest.get("paths")
        whole = (
            isinstance(paths, dict)
            and set(paths) == set(tensors)
            and lists(list(paths.values()))
            and len({tuple(parts) for parts in paths.values() if parts}) == len(tensors)
            and lists(manifest.get("empty", []))
            and isinstance(manifest.get("bare"), bool)
        )
    elif side == "torch":
        whole = (
            isinstance(layers, dict)
            and texts(list(layers.values()))
            and texts(manifest.get("trainable"))
            and texts(manifest.get("modules"))
            and lists(manifest.get("tied"))
        )
    if not whole and side != "pytree":
        raise ValueError(damaged(path, "its manifest is not what save writes"))


def _require_x64(path: str | os.PathLike, tensors: dict[str, np.ndarray]) -> None:
    wide = [name for name, array in tensors.items() if array.dtype.name in WIDE]
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
