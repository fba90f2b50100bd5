"""Which leaf of a Flax tree is which tensor of a module: strict, all faults in one message.

A path becomes a name by: the rename map (longest prefix first), then Linen's `layers_3` -> `3`
inside a Sequential, then the rules of the layer at that path. Every name of both sides must be
used exactly once.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from jaxprob.interop.layouts import Rule, rules_for
from jaxprob.interop.mismatch import refuse
from jaxprob.interop.modules import Description, Spec
from jaxprob.interop.paths import Path, Tree, owner, shown, torch_path

__all__ = ["Link", "correspond"]


class Link(NamedTuple):
    """A rule at its place.

    Attributes:
      layer: Path of the layer in the module.
      flax: Full paths, collection first.
      torch: Full names.
      rule: The rule.
      transpose_kernel: What was assumed of a transposed convolution.
    """

    layer: str
    flax: tuple[Path, ...]
    torch: tuple[str, ...]
    rule: Rule


def correspond(
    action: str,
    tree: Tree,
    module: Description,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
    constants: bool = False,
) -> list[Link]:
    """Pairs all leaves with all tensors.

    Args:
      action: Name of the caller, for messages.
      tree: Leaves with shape and dtype.
      module: The other side.
      rename: Flax path or prefix -> torch path or prefix; separators "/" and "." are equal.
      transpose_kernel: See `to_torch`.
      constants: Whether buffers without a leaf, running statistics apart, are taken for constants
        that the Flax model has in its code.

    Returns:
      Links that use every leaf and every tensor once.

    Raises:
      ValueError: Whatever does not correspond, all listed.
    """
    renames = _Renames(action, rename or {}, tree)
    groups = _grouped(tree, module, renames)
    unused = dict(module.tensors)
    links: list[Link] = []
    problems: list[str] = []
    for layer, (leaves, tensors) in groups.items():
        kernel = transpose_kernel.get(layer) if isinstance(transpose_kernel, Mapping) else (
            transpose_kernel
        )  # fmt: skip
        rules = rules_for(
            module.layers.get(layer, ""),
            {name: tuple(tree.leaves[path].shape) for name, path in leaves.items()},
            {name: module.tensors[full].shape for name, full in tensors.items()},
            kernel,
        )
        claimed = set()
        for rule in rules:
            missing_flax = [name for name in rule.flax if name not in leaves]
            missing_torch = [name for name in rule.torch if name not in tensors]
            claimed |= set(rule.flax)
            if missing_torch:
                wanted = ", ".join(f"'{_join(layer, name)}'" for name in missing_torch)
                problems += [
                    f"{shown(leaves[name])} (Flax) has no counterpart {wanted} in the module"
                    for name in rule.flax
                    if name in leaves
                ]
                continue
            if missing_flax:
                continue  # the tensors stay unused and are reported below
            link = Link(
                layer,
                tuple(leaves[name] for name in rule.flax),
                tuple(tensors[name] for name in rule.torch),
                rule,
            )
            links.append(link)
            problems += _disagreements(link, tree, module)
            for name in link.torch:
                unused.pop(name, None)
        problems += [
            f"{shown(path)} (Flax) has no counterpart '{_join(layer, name.replace('/', '.'))}' "
            "in the module"
            for name, path in leaves.items()
            if name not in claimed
        ]
    problems += _tied(module, links, unused)
    if constants:
        unused = {
            name: spec for name, spec in unused.items() if spec.trainable or "running_" in name
        }
    problems += [
        f"{name} (PyTorch{'' if spec.trainable else ' buffer'}) has no counterpart in the params"
        for name, spec in sorted(unused.items())
    ]
    if problems:
        refuse(action, problems, tree, module, unused)
    renames.require_used()
    return links


class _Renames:
    """The user's map, longest prefix first."""

    def __init__(self, action: str, rename: Mapping[str, str], tree: Tree):
        self.action = action
        self.entries = sorted(
            ((_parts(old), _parts(new)) for old, new in rename.items()), key=lambda e: -len(e[0])
        )
        self.used: set[Path] = set()
        self.tops = sorted({"/".join(path[1:-1]) for path in tree.leaves})

    def __call__(self, path: Path) -> tuple[Path, bool]:
        for old, new in self.entries:
            if path[: len(old)] == old:
                self.used.add(old)
                return new + path[len(old) :], True
        return path, False

    def require_used(self) -> None:
        unused = ["/".join(old) for old, _ in self.entries if old not in self.used]
        if unused:
            raise ValueError(
                f"{self.action}: rename has entries that match no path: {', '.join(unused)}. "
                f"The Flax layers are: {', '.join(self.tops)}."
            )


def _parts(path: str) -> Path:
    return tuple(part for part in re.split(r"[/.]", path) if part)


def _grouped(
    tree: Tree, module: Description, renames: Callable[[Path], tuple[Path, bool]]
) -> dict[str, tuple[dict[str, Path], dict[str, str]]]:
    """Layer path -> (relative path -> full path, relative name -> full name), sides apart."""
    groups: dict[str, tuple[dict[str, Path], dict[str, str]]] = {}
    for path in tree.leaves:
        renamed, _ = renames(path[1:])
        place = (*torch_path(renamed[:-1], module), renamed[-1])
        layer, rest = owner(place, module)
        groups.setdefault(layer, ({}, {}))[0]["/".join(rest)] = path
    for name in module.tensors:
        layer, rest = owner(tuple(name.split(".")), module)
        groups.setdefault(layer, ({}, {}))[1][".".join(rest)] = name
    return groups


def _join(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name


def _disagreements(link: Link, tree: Tree, module: Description) -> list[str]:
    """Shapes, dtypes and roles that differ, found by converting arrays that hold no memory."""
    empty = [
        np.broadcast_to(np.zeros((), np.int8), tuple(tree.leaves[path].shape)) for path in link.flax
    ]
    wanted = [module.tensors[name].shape for name in link.torch]
    problems = []
    try:
        found = [array.shape for array in link.rule.to_torch(empty, wanted)]
        # and back, since a reshape accepts more than it should
        back = [tuple(tree.leaves[path].shape) for path in link.flax]
        if found == wanted:
            zeros = [np.broadcast_to(np.zeros((), np.int8), shape) for shape in wanted]
            returned = [array.shape for array in link.rule.to_flax(zeros, back)]
            if returned != back:
                found = []
    except ValueError:
        found = []
    names = ", ".join(link.torch)
    leaves = ", ".join(shown(path) for path in link.flax)
    flax_types = {str(np.dtype(tree.leaves[path].dtype)) for path in link.flax}
    torch_types = {module.tensors[name].dtype for name in link.torch}
    if found != wanted or flax_types != torch_types:
        if found:
            shapes = ", ".join(map(str, found)) + " {} in PyTorch's layout"
        else:
            shapes = ", ".join(str(tuple(tree.leaves[p].shape)) for p in link.flax) + " {}"
        ours = shapes.format("/".join(sorted(flax_types)))
        theirs = ", ".join(map(str, wanted)) + f" {'/'.join(sorted(torch_types))}"
        problems.append(f"{leaves} (Flax) is {ours}, but {names} is {theirs}")
    for path in link.flax:
        if path[0] == "params" and not all(module.tensors[name].trainable for name in link.torch):
            problems.append(f"{shown(path)} (Flax) is trainable, but {names} is a buffer")
    return problems


def _tied(module: Description, links: list[Link], unused: dict[str, Spec]) -> list[str]:
    """One tensor under several names needs one leaf: two would be trained apart."""
    used = {name for link in links for name in link.torch}
    problems = []
    for names in module.tied:
        partners = [name for name in names if name in used]
        if len(partners) > 1:
            problems.append(
                f"{' and '.join(partners)} (PyTorch) are one tied tensor, but the params hold "
                "one leaf for each; tie them in Flax too (e.g. Embed.attend)"
            )
        elif partners:
            for name in names:
                unused.pop(name, None)
    return problems
