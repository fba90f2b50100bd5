"""What a file says beside its arrays: the model, the versions, and the classes of a state.

A description of a model is its `repr` without addresses, one entry a line; two functions of one
name, such as two lambdas, are not told apart. The classes of a state are named tuples of jaxprob
and optax by their names: whoever loads looks them up and fills them, and no code is in the file.
"""

import difflib
import importlib
import os
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax

__all__ = ["contents_of", "rebuild", "require_model", "structure_of", "versions"]

PACKAGES = ("jaxprob", "optax")
"""Whose named tuples a file may name."""

SHOWN = 6
"""Lines of a difference that an error lists."""


def contents_of(model: Any) -> list[str]:
    """Describes a model, or a posterior with its model."""
    text = repr(model)
    inner = getattr(model, "model", None)
    if inner is not None and not hasattr(model, "apply"):
        text += "\n" + repr(inner)
    plain = re.sub(r" (object )?at 0x[0-9a-fA-F]+", "", text)
    return [line.strip() for line in plain.splitlines() if line.strip() not in ("", "# attributes")]


def versions() -> dict[str, str]:
    """Versions of what wrote a file."""
    found = {}
    for name in ("jaxprob", "jax", "flax", "optax", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def require_model(path: str | os.PathLike, manifest: Mapping[str, Any], model: Any) -> None:
    """Refuses a file of another model.

    Raises:
      ValueError: The file does not say its model, or says another; the differences are listed.
    """
    if model is None:
        return
    kept = manifest.get("model")
    if not isinstance(kept, list):
        raise ValueError(
            f"load: {path} does not say to which model it belongs, since it was saved without "
            "model=. Leave model= out here, and pass an example, whose shapes are checked."
        )
    wanted = contents_of(model)
    if kept == wanted:
        return
    lines = [
        f"{'the file has' if line[0] == '-' else 'here'}: {line[2:]}"
        for line in difflib.ndiff(list(map(str, kept)), wanted)
        if line[0] in "-+"
    ]
    listed = "\n  ".join(lines[:SHOWN] + ["..."] * (len(lines) > SHOWN))
    raise ValueError(
        f"load: {path} belongs to another model than {type(model).__name__} as it is here:\n  "
        f"{listed}\nMake the model as it was when the file was written (with "
        f"{_listed(manifest)})."
    )


def _listed(manifest: Mapping[str, Any]) -> str:
    known = manifest.get("versions")
    if not isinstance(known, dict) or not known:
        return "unknown versions"
    return ", ".join(f"{name} {version}" for name, version in known.items())


def structure_of(tree: Any) -> Any:
    """The nested classes of a state as JSON; None where an example is needed to load it."""
    if not _is_known(type(tree)):
        return None
    try:
        return _node(tree)
    except TypeError:
        return None


def _is_known(kind: type) -> bool:
    named = issubclass(kind, tuple) and hasattr(kind, "_fields")
    return named and kind.__module__.split(".")[0] in PACKAGES


def _node(tree: Any) -> Any:
    if tree is None:
        return None
    if _is_known(type(tree)):
        name = f"{type(tree).__module__}:{type(tree).__qualname__}"
        return ["named", name, [[f, _node(getattr(tree, f))] for f in tree._fields]]
    if type(tree) in (tuple, list):
        return [type(tree).__name__, [_node(part) for part in tree]]
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return ["dict", [[key, _node(part)] for key, part in tree.items()]]
    if jax.tree.structure(tree).num_nodes == 1:
        return "leaf"
    raise TypeError(f"{type(tree).__name__} is not known by its name")


def rebuild(path: str | os.PathLike, manifest: Mapping[str, Any]) -> Any:
    """Makes the empty state that a manifest names, to be filled with the arrays.

    Raises:
      ValueError: A class that is not there any more, or has other fields.
    """

    def made(node: Any) -> Any:
        if node is None:
            return None
        if node == "leaf":
            return 0
        kind, *rest = node
        if kind == "tuple":
            return tuple(made(part) for part in rest[0])
        if kind == "list":
            return [made(part) for part in rest[0]]
        if kind == "dict":
            return {key: made(part) for key, part in rest[0]}
        name, fields = rest
        cls = _look_up(name)
        if cls is None or list(cls._fields) != [field for field, _ in fields]:
            listed = ", ".join(field for field, _ in fields)
            raise ValueError(
                f"load: {path} holds a {name.replace(':', '.')} of the fields {listed}, which this "
                f"version does not have; it was written with {_listed(manifest)}. Install those, "
                "or pass example=."
            )
        return cls(*(made(part) for _, part in fields))

    return made(manifest["structure_of"])


def _look_up(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if module.split(".")[0] not in PACKAGES or not module.replace(".", "_").isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and _is_known(found) else None
