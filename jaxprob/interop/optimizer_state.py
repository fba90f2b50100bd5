"""Optimiser state between optax and torch.optim: moments, buffers, step counts, hyperparameters.

Works for every transformation of `jaxprob.optim`, for those of optax that are an algorithm of torch
(`optimizer_kinds`), and for what stands around them: `chain`, `named_chain`, `masked`, `partition`,
`flatten`, `apply_if_finite`, `MultiSteps`, `inject_hyperparams` and schedules. All else is refused
by name. A state does not say which transformation made it (`optax.adam`, `lamb` and `yogi` keep the
same one): with `transformation=` both sides take trial steps before anything is written.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.interop.optimizer_groups import Groups
from jaxprob.interop.optimizer_kinds import kept_by_torch
from jaxprob.interop.optimizer_move import Move
from jaxprob.interop.optimizer_tree import (
    Entry,
    Keys,
    spread,
    together,
)
from jaxprob.interop.optimizer_trial import try_steps
from jaxprob.interop.transfer import as_array, convert_to_flax
from jaxprob.types import Params

if TYPE_CHECKING:
    import torch

__all__ = ["optimizer_from_torch", "optimizer_to_torch"]


def optimizer_to_torch(
    opt_state: Any,
    params: Params,
    module: "torch.nn.Module",
    optimizer: "torch.optim.Optimizer",
    *,
    step: int | None = None,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
    transformation: optax.GradientTransformation | None = None,
) -> "torch.optim.Optimizer":
    """Copies an optax state into a torch optimiser of the same algorithm.

    Args:
      opt_state: State of the transformation, after any number of steps.
      params: The params that it belongs to.
      module: The module whose parameters the optimiser holds. Its weights are not changed.
      optimizer: Optimiser over the parameters that the transformation trains, in any groups. Its
        hyperparameters are yours to set, but for those that `optax.inject_hyperparams` keeps in the
        state without a schedule, which are copied into the groups.
      step: Steps done; only needed where the optax state does not count them.
      rename: See `to_torch`.
      transpose_kernel: See `to_torch`.
      transformation: What `opt_state` is a state of, without clipping. If given, both sides first
        take a few steps from here, on copies, and must agree.

    Returns:
      The same optimiser.

    Raises:
      ValueError: Parameters that do not correspond, a state or an algorithm without counterpart,
        another algorithm on the two sides, or folded biases; nothing is written.
    """
    action = "optimizer_to_torch"
    move = Move(action, params, module, optimizer, rename, transpose_kernel)
    found = move.entries(opt_state)
    moments = [entry for entry in found if entry.role == "moment"]
    hyperparameters = [entry for entry in found if entry.role == "hyperparameter"]
    if not moments and not hyperparameters and transformation is None:
        raise ValueError(
            f"{action}: the optax state holds nothing that torch would keep (plain SGD has no "
            "state); there is nothing to move. With transformation= it is tried whether that is so."
        )
    leaves = {entry.at: spread(action, entry, move.leaves, move.params) for entry in moments}
    cover = move.cover(moments, leaves)
    groups = Groups(action, optimizer, move.names)
    for entry in hyperparameters:
        names = move.tensors_of(cover(entry.scope))
        if not names:
            where = jax.tree_util.keystr(entry.at)
            raise ValueError(
                f"{action}: {where} is of a label without moments, so that the state does not say "
                "whose it is; set it in the groups by hand, and inject nothing into that label."
            )
        groups.inject(entry.name, entry.value, names)
    state: dict[str, dict[str, Any]] = {}
    for entry in moments:
        move.require(entry, groups, leaves[entry.at])
        for name, array in move.to_torch(leaves[entry.at]).items():
            if entry.scaled:
                array = array / -groups.rate(name)
            state.setdefault(name, {})[entry.name] = array
    move.require_held(state)
    _add_numbers(move, state, found, groups, cover, step)
    move.require_whole(state, groups)
    written = {name: move.as_torch(name, entry) for name, entry in state.items()}
    if transformation is not None:
        try_steps(action, transformation, opt_state, params, move, groups, written)
    groups.write()
    for name, entry in written.items():
        optimizer.state[move.tensors[name]] = entry
    return optimizer


def _add_numbers(
    move: "Move", state: dict, found: list[Entry], groups: Groups, cover: Any, step: int | None
) -> None:
    """Adds step counts, each parameter its own, and products of momenta."""
    algorithm = {entry.scope: entry for entry in found if entry.role == "count" and (
        entry.state.startswith("jaxprob") or "ScaleByAdam" in entry.state
    )}  # fmt: skip
    for name, entry in state.items():
        path = move.path_of(name)
        own = [int(c.value) for c in algorithm.values() if path in cover(c.scope)]
        other = [
            int(c.value) for c in found if c.role == "count" and path in cover(c.scope)
        ]  # of schedules
        counts = set(own or other)
        if step is not None and own and counts != {step}:
            raise ValueError(
                f"{move.action}: step={step}, but the optax state has counted "
                f"{', '.join(map(str, sorted(counts)))} for {name}; leave step= out."
            )
        if "step" in (kept_by_torch(move.kind, groups.of(name)) or ()):
            if step is not None:
                counts = {step}
            if len(counts) != 1:
                raise ValueError(
                    f"{move.action}: the optax state does not count its steps; pass step=."
                    if not counts
                    else f"{move.action}: the optax state has several counts for {name}: "
                    f"{sorted(counts)}; pass step=."
                )
            entry["step"] = float(counts.pop())
        if move.kind == "NAdam":
            given = [e for e in found if e.name == "mu_product" and path in cover(e.scope)]
            beta = float(groups.of(name)["betas"][0])
            entry["mu_product"] = float(given[0].value) if given else beta ** entry["step"]


def optimizer_from_torch(
    optimizer: "torch.optim.Optimizer",
    module: "torch.nn.Module",
    example: Any,
    params: Params,
    *,
    step: int | None = None,
    rename: Mapping[str, str] | None = None,
    transpose_kernel: bool | Mapping[str, bool] | None = None,
    transformation: optax.GradientTransformation | None = None,
) -> Any:
    """Copies a torch optimiser's state into an optax state of the same algorithm.

    Args:
      optimizer: The torch optimiser, after at least one step.
      module: The module whose parameters it holds.
      example: A state with the wanted structure, e.g. `transformation.init(params)`.
      params: Params of the wanted structure.
      step: Steps done; only needed for torch.optim.SGD, which does not count them.
      rename: See `to_torch`.
      transpose_kernel: See `to_torch`.
      transformation: What `example` is a state of, without clipping. If given, both sides first
        take a few steps from here, on copies, and must agree.

    Returns:
      A new optax state, all of whose arrays were filled, with the hyperparameters of torch's groups
      where `optax.inject_hyperparams` keeps them. Counters of failures (`apply_if_finite`) start
      anew.

    Raises:
      ValueError: Parameters that do not correspond, fields that one side lacks, a state or an
        algorithm without counterpart, or folded biases.
    """
    action = "optimizer_from_torch"
    move = Move(action, params, module, optimizer, rename, transpose_kernel)
    found = move.entries(example)
    moments = [entry for entry in found if entry.role == "moment"]
    leaves = {entry.at: spread(action, entry, move.leaves, move.params) for entry in moments}
    cover = move.cover(moments, leaves)
    groups = Groups(action, optimizer, move.names)
    known = {name: dict(optimizer.state.get(move.tensors[name], {})) for name in move.names}
    used: dict[str, set[str]] = {name: {"step"} for name in known}
    values: dict[Keys, Any] = {}
    for entry in found:
        if entry.role == "kept":
            values[entry.at] = entry.value
        elif entry.role == "hyperparameter":
            names = move.tensors_of(cover(entry.scope))
            number = groups.read(entry.name, names)
            values[entry.at] = jnp.asarray(number, jnp.result_type(entry.value))
        elif entry.role == "moment":
            paths = leaves[entry.at]
            names = move.tensors_of(paths)
            _require_known(action, entry.name, names, known)
            move.require(entry, groups, paths)

            def array(name: str, entry: Entry = entry) -> np.ndarray:
                used[name].add(entry.name)
                value = as_array(known[name][entry.name])
                return value * -groups.rate(name) if entry.scaled else value

            converted = convert_to_flax(move.links_of(paths), move.tree, array)
            filled = {path: converted[("params", *path)] for path in paths}
            values[entry.at] = together(filled, entry.value)
        else:
            names = move.tensors_of(cover(entry.scope))
            number = _number(move, entry, names, known, step)
            values[entry.at] = jnp.asarray(number, jnp.result_type(entry.value))
            for name in names:
                used[name].add(entry.name)
    if move.kind == "NAdam":
        used = {name: fields | {"mu_product"} for name, fields in used.items()}
    left = sorted(
        f"{field} of {name}"
        for name, entry in known.items()
        for field, value in entry.items()
        if field not in used[name] and value is not None
    )
    if left:
        raise ValueError(
            f"{action}: the example has no place for {', '.join(left)} of torch's state. Use the "
            "same algorithm on both sides, with the same options."
        )
    state = _replaced(example, values)
    if transformation is not None:
        written = {name: entry for name, entry in known.items() if entry}
        weights = convert_to_flax(move.links, move.tree, lambda name: as_array(move.tensors[name]))
        now = [weights[("params", *path)] for path in move.leaves]
        now = jax.tree.unflatten(jax.tree.structure(params), now)
        try_steps(action, transformation, state, now, move, groups, written)
    return state


def _require_known(action: str, field: str, names: list[str], known: Mapping) -> None:
    lacking = sorted(name for name in names if known[name].get(field) is None)
    if lacking:
        raise ValueError(
            f"{action}: torch's state has no {field!r} for {', '.join(lacking)}. Take at least one "
            "step first, use the same algorithm on both sides, and give step= for "
            "torch.optim.SGD. Parameters that torch never trained need a partition of their own, "
            "with optax.set_to_zero()."
        )


def _number(move: "Move", entry: Entry, names: list[str], known: Mapping, step: int | None) -> Any:
    """A count or a product of momenta, which must be that of all its parameters."""
    kept = {name: known[name] for name in names if known[name]} or {
        name: entry for name, entry in known.items() if entry
    }
    numbers = {
        name: as_array(value[entry.name]).item() if hasattr(value[entry.name], "detach") else
        value[entry.name]
        for name, value in kept.items()
        if value.get(entry.name) is not None
    }  # fmt: skip
    distinct = sorted(set(numbers.values()))
    if entry.name == "step" and step is not None:
        if distinct and distinct != [step]:
            raise ValueError(
                f"{move.action}: step={step}, but torch has counted "
                f"{', '.join(f'{n:g}' for n in distinct)}; leave step= out."
            )
        return step
    if not distinct:
        raise ValueError(
            f"{move.action}: torch's state has no {entry.name!r}. Take at least one step first, "
            "and give step= for torch.optim.SGD, which does not count."
        )
    if len(distinct) > 1:
        listed = ", ".join(f"{name} {number:g}" for name, number in sorted(numbers.items()))
        raise ValueError(
            f"{move.action}: torch counts the steps of each parameter ({listed}), optax one for "
            "all that share a state. Give those of each count a label of their own in "
            "optax.partition."
        )
    return distinct[0]


def _replaced(example: Any, values: Mapping[Keys, Any]) -> Any:
    """The example with new fields; an array that got none would be a fault of this file."""

    def new(at: Keys, leaf: Any) -> Any:
        for end in range(len(at), -1, -1):
            if at[:end] in values:
                value = values[at[:end]]
                for key in at[end:]:
                    value = value[key.key] if hasattr(key, "key") else (
                        value[key.idx] if hasattr(key, "idx") else getattr(value, key.name)
                    )  # fmt: skip
                return value
        raise AssertionError(f"no value for {jax.tree_util.keystr(at)}")

    return jax.tree_util.tree_map_with_path(new, example)
