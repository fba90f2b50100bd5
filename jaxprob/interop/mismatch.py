"""What to say of weights that do not correspond, and which rename would mend it."""

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

import numpy as np

from jaxprob.interop.layouts import GATES, rules_for
from jaxprob.interop.modules import Description, Spec
from jaxprob.interop.paths import Path, Tree, owner, torch_path

__all__ = ["refuse"]

MOST_LISTED = 10
"""More faults than this have one cause, and are counted."""

Shapes = dict[str, tuple[int, ...]]


def refuse(
    action: str,
    problems: list[str],
    tree: Tree,
    module: Description,
    unused: Mapping[str, Spec],
) -> NoReturn:
    """Raises with the faults, and what would mend them.

    Args:
      action: Name of the caller.
      problems: One sentence a fault.
      tree: The Flax side.
      module: The other side.
      unused: Its tensors without a leaf.

    Raises:
      ValueError: Always.
    """
    listed = "\n  ".join(problems[:MOST_LISTED])
    if len(problems) > MOST_LISTED:
        listed += f"\n  ... and {len(problems) - MOST_LISTED} more"
    advice = "Give both models the same architecture, attribute names and dtype"
    if any("running_" in name for name in unused) and tree.bare:
        advice += (
            '; running statistics travel too if you pass {"params": ..., "batch_stats": ...} '
            "instead of the params alone"
        )
    if any(not spec.trainable and "running_" not in name for name, spec in unused.items()):
        advice += (
            "; a buffer that holds a constant of the code is no weight: register it with "
            "persistent=False"
        )
    advice += _casts(tree, module)
    suggestion, layers = _suggestion(tree, module)
    if suggestion:
        which = f"which is which; this pairs {layers} layers" if layers else "which is which"
        advice += f", or say {which}:\n  rename={suggestion!r}"
    if _alike(suggestion, tree):
        advice += (
            ".\nLayers of one shape are paired in the order of their names; swap them where that "
            "is wrong"
        )
    plural = "parameter does" if len(problems) == 1 else "parameters do"
    raise ValueError(
        f"{action}: {len(problems)} {plural} not correspond; nothing was copied.\n  "
        f"{listed}\n{advice}."
    )


def _casts(tree: Tree, module: Description) -> str:
    """Which cast is missing, where all of one side has one dtype and all of the other another."""
    ours = {str(np.dtype(leaf.dtype)) for path, leaf in tree.leaves.items() if path[0] == "params"}
    theirs = {spec.dtype for spec in module.tensors.values() if spec.trainable}
    if len(ours) != 1 or len(theirs) != 1 or ours == theirs:
        return ""
    (own,), (other,) = ours, theirs
    return (
        f"; Flax has {own} throughout, PyTorch {other}: cast one, module.to(torch.{own}) or "
        f"jax.tree.map(lambda w: w.astype({other!r}), params)"
    )


def _layers(tree: Tree, module: Description) -> tuple[dict[Path, Shapes], dict[str, Shapes]]:
    ours: dict[Path, Shapes] = {}
    for path, leaf in tree.leaves.items():
        ours.setdefault(path[1:-1], {})[path[-1]] = tuple(leaf.shape)
    theirs: dict[str, Shapes] = {}
    for name, spec in module.tensors.items():
        layer, rest = owner(tuple(name.split(".")), module)
        theirs.setdefault(layer, {})[".".join(rest)] = spec.shape
    return ours, theirs


def _suggestion(tree: Tree, module: Description) -> tuple[dict[str, str], int]:
    """The rename to propose, and how many layers it pairs; 0 for all of them."""
    ours, theirs = _layers(tree, module)
    cells, runs, joined = _cells(ours, theirs, module)
    left = {path: leaves for path, leaves in ours.items() if path[:-1] not in runs}
    others = {layer: tensors for layer, tensors in theirs.items() if layer not in joined}
    every = _every_layer(left, others, module)
    if every is not None:
        return {**cells, **every}, 0
    if cells:
        return cells, len(runs)
    return _best_prefix(tree, module)


def _alike(suggestion: Mapping[str, str], tree: Tree) -> bool:
    """Whether layers of one shape are told apart by names that Linen has not numbered."""
    seen = set()
    for name in suggestion:
        prefix = tuple(name.split("/"))
        inside = [
            (path[1 + len(prefix) :], tuple(leaf.shape))
            for path, leaf in tree.leaves.items()
            if path[1 : 1 + len(prefix)] == prefix
        ]
        signature = tuple(sorted(inside))
        if signature in seen and not re.fullmatch(r"[A-Z]\w*_\d+", prefix[-1]):
            return True
        seen.add(signature)
    return False


def _every_layer(
    ours: Mapping[Path, Shapes], theirs: Mapping[str, Shapes], module: Description
) -> dict[str, str] | None:
    """Pairs layers by kind and shapes in their order; None where one finds no partner."""
    if len(ours) != len(theirs) or any(not path for path in ours):
        return None
    pairs, left = {}, dict(theirs)
    for path in sorted(ours, key=_natural):
        fits = (layer for layer in left if _fits(ours[path], left[layer], layer, module))
        layer = next(fits, None)
        if layer is None:
            return None
        del left[layer]
        if ".".join(torch_path(path, module)) != layer:
            pairs["/".join(path)] = layer
    return pairs


def _cells(
    ours: Mapping[Path, Shapes], theirs: Mapping[str, Shapes], module: Description
) -> tuple[dict[str, str], set[Path], set[str]]:
    """Pairs Linen's recurrent cells with the layers and directions inside PyTorch's, in order.

    Returns:
      (rename, cells with a partner, PyTorch's layers), all empty where one has no cell.
    """
    cells: dict[Path, dict[str, Shapes]] = {}
    for path, leaves in ours.items():
        cells.setdefault(path[:-1], {})[path[-1] if path else ""] = leaves
    pairs: dict[str, str] = {}
    runs: set[Path] = set()
    joined: set[str] = set()
    for layer, tensors in theirs.items():
        gates = GATES.get(module.layers.get(layer, "").removesuffix("Cell"))
        if gates is None:
            continue
        names = {side + gate for side in "ih" for gate in gates}
        joined.add(layer)
        for name, shape in tensors.items():
            if not name.startswith("weight_ih"):
                continue
            place = ".".join((layer, *filter(None, [name.removeprefix("weight_ih").strip("_")])))
            fits = (
                path
                for path in sorted(cells, key=_natural)
                if set(cells[path]) == names
                and _size(cells[path], gates) == (shape[1], shape[0] // len(gates))
            )
            path = next(fits, None)
            if path is None:
                return {}, set(), set()
            del cells[path]
            runs.add(path)
            if ".".join(torch_path(path, module)) not in (place, layer):
                pairs["/".join(path)] = place
    return pairs, runs, joined


def _size(cell: dict[str, Shapes], gates: Sequence[str]) -> tuple[int, ...]:
    """Sizes of a cell's input and state."""
    return cell[f"i{gates[0]}"]["kernel"]


def _best_prefix(tree: Tree, module: Description) -> tuple[dict[str, str], int]:
    """The one rename of a prefix that gives most layers a partner, and how many."""
    ours, theirs = _layers(tree, module)
    paired = {path for path in ours if ".".join(torch_path(path, module)) in theirs}
    open_paths = [path for path in ours if path not in paired]
    taken = {".".join(torch_path(path, module)) for path in paired}
    open_layers = [tuple(layer.split(".")) for layer in theirs if layer not in taken]
    prefixes = {path[:n] for path in open_paths for n in range(1, len(path) + 1)}
    places = {layer[:n] for layer in open_layers for n in range(1, len(layer) + 1)}
    best: tuple[dict[str, str], int] = ({}, 0)
    for prefix in sorted(prefixes, key=len):
        inside = [path for path in open_paths if path[: len(prefix)] == prefix]
        for place in sorted(places, key=len):
            fit = 0
            for path in inside:
                layer = ".".join(torch_path((*place, *path[len(prefix) :]), module))
                if layer in theirs and _fits(ours[path], theirs[layer], layer, module):
                    fit += 1
            if fit > best[1]:
                best = {"/".join(prefix): ".".join(place)}, fit
    return best


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sorts Dense_10 after Dense_2, as they were made."""
    return [(m[1], int(m[2] or 0)) for part in path if (m := re.match(r"(.*?)(\d*)$", part))]


def _fits(leaves: Shapes, tensors: Shapes, layer: str, module: Description) -> bool:
    rules = rules_for(module.layers.get(layer, ""), leaves, tensors)
    if {n for r in rules for n in r.flax} != set(leaves):
        return False
    if {n for r in rules for n in r.torch} != set(tensors):
        return False
    for rule in rules:
        arrays = [np.broadcast_to(np.zeros((), np.int8), leaves[name]) for name in rule.flax]
        wanted = [tensors[name] for name in rule.torch]
        try:
            if [a.shape for a in rule.to_torch(arrays, wanted)] != wanted:
                return False
        except ValueError:
            return False
    return True
