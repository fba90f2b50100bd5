"""Paths of Flax trees, and what they are called in a PyTorch module."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax.core import unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxprob.interop.modules import Description

__all__ = ["Path", "Tree", "owner", "shown", "torch_path"]

Path = tuple[str, ...]


class Tree(NamedTuple):
    """A Flax tree, flat.

    Attributes:
      leaves: (collection, *path) -> leaf.
      bare: Whether the tree was the "params" collection alone.
    """

    leaves: dict[Path, Any]
    bare: bool

    @classmethod
    def of(cls, params: Any) -> "Tree":
        """Flattens params, or variables `{"params": ..., "batch_stats": ...}`."""
        tree = unfreeze(params)
        bare = not ("params" in tree and all(isinstance(v, Mapping) for v in tree.values()))
        return cls(flatten_dict({"params": tree} if bare else tree), bare)

    def rebuild(self, leaves: dict[Path, Any]) -> Any:
        """Nests leaves like this tree."""
        nested = unflatten_dict({path: leaves[path] for path in self.leaves})
        return nested["params"] if self.bare else nested


def torch_path(path: Path, module: Description) -> Path:
    """The path in the module: where it has them so, `layers_3` is `3` and `blocks_0` `blocks.0`.

    Linen names the layers of a list `blocks` like that; PyTorch's are entries of a ModuleList, of
    a Sequential or, under their keys, of a ModuleDict.
    """
    out: Path = ()
    for part in path:
        # also inside the name of a group of weights, "layers_1/hidden_0"
        plain = "/".join(piece.removeprefix("layers_") for piece in part.split("/"))
        if ".".join((*out, part)) not in module.modules and (
            ".".join((*out, plain)) in module.modules
        ):
            part = plain
        out = (*out, *_entry(out, part, module))
    return out


def _entry(outer: Path, part: str, module: Description) -> Path:
    """The name of an entry of a list as the list and the entry, where the module has both."""
    if ".".join((*outer, part)) in module.modules:
        return (part,)
    for cut in re.finditer("_", part):
        first, rest = part[: cut.start()], part[cut.end() :]
        if first and rest and ".".join((*outer, first)) in module.modules:
            inner = _entry((*outer, first), rest, module)
            if ".".join((*outer, first, *inner)) in module.modules:
                return (first, *inner)
    return (part,)


def owner(place: Path, module: Description) -> tuple[str, Path]:
    """The outermost layer with rules that contains a place; else its parent."""
    for end in range(len(place)):
        layer = ".".join(place[:end])
        if layer in module.layers:
            return layer, place[end:]
    return ".".join(place[:-1]), place[-1:]


def shown(path: Path) -> str:
    """A path as users write it, without the collection of the params."""
    return "/".join(path[1:] if path[0] == "params" else path)
