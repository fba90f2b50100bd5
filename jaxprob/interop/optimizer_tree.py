"""Every array of an optax state: what it is, where it is, and which parameters it is of.

A state is a tree of NamedTuples, tuples (of `chain`) and dicts (of `named_chain` and `partition`).
`entries` names each array once, or refuses the state that holds it, so that none is passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprob.interop import optimizer_kinds as kinds

__all__ = [
    "Entry",
    "Keys",
    "Leaves",
    "WrongAlgorithm",
    "entries",
    "spread",
    "state_names",
    "together",
]

Keys = tuple[Any, ...]
"""Keys of `jax.tree_util`, from the root of a state to an array."""

Leaves = dict[tuple[str, ...], Any]
"""Params, flat: path -> leaf."""


class Entry(NamedTuple):
    """A field of a state, or one array of it.

    Attributes:
      at: Where the field is.
      role: "moment" (like params), "number" (of the algorithm), "count" (steps), "hyperparameter",
        or "kept" (without effect).
      name: torch's name; of a hyperparameter, optax's.
      value: The field.
      scope: Where the innermost mask around it is.
      state: Name of the state's class.
      scaled: Whether the learning rate is inside the moment, with a minus.
    """

    at: Keys
    role: str
    name: str
    value: Any
    scope: Keys
    state: str
    scaled: bool = False


class _Place(NamedTuple):
    at: Keys = ()
    scope: Keys = ()
    behind: tuple[str, ...] = ()  # states that the updates have passed
    last: bool = True  # no state follows in the chain


def entries(action: str, state: Any, kind: str) -> list[Entry]:
    """Lists all arrays of a state.

    Args:
      action: Name of the caller, for messages.
      state: The optax state.
      kind: Name of the torch optimiser's class.

    Raises:
      ValueError: A state that this torch optimiser does not keep, named with what to do.
    """
    found = list(_walk(action, state, kind, _Place()))
    _refuse_two(action, found)
    return found


def _walk(action: str, node: Any, kind: str, place: _Place) -> Iterator[Entry]:
    if node is None or isinstance(node, optax.MaskedNode):
        return
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        yield from _named(action, node, kind, place)
    elif isinstance(node, tuple | list):
        behind = place.behind
        for i, part in enumerate(node):
            key = jax.tree_util.SequenceKey(i)
            last = place.last and i == len(node) - 1
            yield from _walk(
                action, part, kind, _Place((*place.at, key), place.scope, behind, last)
            )
            behind = (*behind, *state_names(part))
    elif isinstance(node, Mapping):
        yield from _mapping(action, node, kind, place)
    else:
        at = jax.tree_util.keystr(place.at)
        raise ValueError(
            f"{action}: the optax state holds {at or 'an array'} outside of any state that torch "
            "knows (such as the count of proximal_l1); move the state inside, which is torch's."
        )


def _mapping(action: str, node: Mapping, kind: str, place: _Place) -> Iterator[Entry]:
    """The parts of a `named_chain`, in their order; the parts of a partition stand side by side."""
    behind = place.behind
    for i, (name, part) in enumerate(node.items()):
        at = (*place.at, jax.tree_util.DictKey(name))
        last = place.last and i == len(node) - 1
        yield from _walk(action, part, kind, _Place(at, place.scope, behind, last))
        behind = (*behind, *state_names(part))


def _named(action: str, node: Any, kind: str, place: _Place) -> Iterator[Entry]:
    name = class_name(node)

    def at(field: str) -> Keys:
        return (*place.at, jax.tree_util.GetAttrKey(field))

    def entry(role: str, field: str, torch_name: str, scaled: bool = False) -> Entry:
        value = getattr(node, field)
        return Entry(at(field), role, torch_name, value, place.scope, name, scaled)

    if name in kinds.EMPTY:
        return
    if name in kinds.COUNTERS:
        yield entry("count", "count", "step")
    elif name in kinds.WRAPPERS:
        for field in kinds.KEPT.get(name, ()):
            yield entry("kept", field, field)
        yield from _wrapper(action, node, kind, place)
    elif name not in kinds.ALGORITHMS:
        raise ValueError(f"{action}: the optax state holds {kinds.advice(name)}.")
    elif kind not in kinds.ALGORITHMS[name]:
        expected = " or ".join(f"torch.optim.{other}" for other in kinds.ALGORITHMS[name])
        raise WrongAlgorithm(
            f"the optax state holds a {name}, which belongs to {expected}, not to torch.optim."
            f"{kind}. Use the same algorithm on both sides.",
            fields(node, name),
        )
    else:
        names: Mapping[str, str] = kinds.ALGORITHMS[name][kind] or {}
        for field, value in zip(node._fields, node, strict=True):
            if value is None:
                continue
            torch_name = str(names.get(field, field))
            if torch_name == "step":
                yield entry("count", field, torch_name)
            elif torch_name == "mu_product":
                yield entry("number", field, torch_name)
            else:
                scaled = name == "optax.TraceState" and _inside(action, kind, place)
                yield entry("moment", field, torch_name, scaled)


class WrongAlgorithm(Exception):
    """A state of one algorithm for the optimiser of another; `args` are a text and the fields."""


def fields(node: Any, name: str) -> list[str]:
    """Torch's names of the moments that a state holds."""
    names: Mapping[str, str] = next(iter(kinds.ALGORITHMS[name].values())) or {}
    held = [
        str(names.get(f, f))
        for f, value in zip(node._fields, node, strict=True)
        if value is not None
    ]
    return [f for f in held if f != "step"]


def _inside(action: str, kind: str, place: _Place) -> bool:
    """Whether the learning rate is inside of a trace, since it was multiplied before it."""
    if kind == "RMSprop" and not any("ScaleByR" in name for name in place.behind):
        raise ValueError(
            f"{action}: the optax state has momentum before the division by root mean squares; "
            "torch.optim.RMSprop has it behind. Use jaxprob.optim.rmsprop."
        )
    if not place.last or not place.behind:
        return False
    if "optax.ScaleByScheduleState" in place.behind:
        raise ValueError(
            f"{action}: a scheduled learning rate is inside the trace of this optax state "
            "(optax.rmsprop(schedule, momentum=)), and outside of torch's buffer: other steps as "
            "soon as it changes. Use jaxprob.optim.rmsprop."
        )
    return True


def _wrapper(action: str, node: Any, kind: str, place: _Place) -> Iterator[Entry]:
    name, inner = class_name(node), kinds.WRAPPERS[class_name(node)]

    def below(field: str) -> Keys:
        return (*place.at, jax.tree_util.GetAttrKey(field))

    if name == "optax.MultiStepsState":
        if int(node.mini_step) != 0:
            raise ValueError(
                f"{action}: the state is in the middle of an accumulation (mini_step = "
                f"{int(node.mini_step)}), of which torch keeps nothing but .grad. Move it after "
                "the last of the small steps."
            )
        at = below("gradient_step")
        yield Entry(at, "count", "step", node.gradient_step, place.scope, name)
    if name.startswith("optax.Inject"):
        at = below("count")
        yield Entry(at, "count", "step", node.count, place.scope, name)
        for key, value in node.hyperparams.items():
            at = (*below("hyperparams"), jax.tree_util.DictKey(key))
            # what a schedule gives is made anew before it is used
            scheduled = key in getattr(node, "hyperparams_states", {})
            role = "kept" if scheduled else "hyperparameter"
            yield Entry(at, role, key, value, place.scope, name)
        for key, value in getattr(node, "hyperparams_states", {}).items():
            at = (*below("hyperparams_states"), jax.tree_util.DictKey(key))
            yield from _walk(action, value, kind, place._replace(at=at))
            if key in ("learning_rate", "lr"):
                place = place._replace(behind=(*place.behind, "optax.ScaleByScheduleState"))
    if inner is None:
        return
    at = below(inner)
    if name == "optax.PartitionState":
        for label, part in node.inner_states.items():
            yield from _walk(
                action, part, kind, place._replace(at=(*at, jax.tree_util.DictKey(label)))
            )
    else:
        scope = at if name == "optax.MaskedState" else place.scope
        yield from _walk(action, getattr(node, inner), kind, place._replace(at=at, scope=scope))


def state_names(node: Any) -> list[str]:
    """Names of all states below a node."""
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return [class_name(node), *(n for part in node for n in state_names(part))]
    if isinstance(node, tuple | list):
        return [n for part in node for n in state_names(part)]
    if isinstance(node, Mapping):
        return [n for part in node.values() for n in state_names(part)]
    return []


def class_name(node: Any) -> str:
    """The package and the class of a state: optax.TraceState."""
    return f"{type(node).__module__.split('.')[0]}.{type(node).__name__}"


def _refuse_two(action: str, found: list[Entry]) -> None:
    seen: dict[tuple[str, Keys], Entry] = {}
    for entry in found:
        if entry.role != "moment":
            continue
        first = seen.setdefault((entry.name, entry.scope), entry)
        if first is not entry:
            places = " and ".join(jax.tree_util.keystr(e.at) for e in (first, entry))
            raise ValueError(
                f"{action}: the optax state holds two moments for torch's {entry.name!r}, at "
                f"{places}; one torch optimiser keeps one. Move states of one algorithm."
            )


def spread(action: str, entry: Entry, params: Leaves, structure: Any) -> Leaves:
    """The arrays of a moment by the path of their parameter; masked ones are left out.

    Args:
      action: Name of the caller, for messages.
      entry: A moment.
      params: All params, in the order of `jax.tree.leaves`.
      structure: The params, nested.

    Raises:
      ValueError: A moment whose shapes are not those of the params.
    """
    if isinstance(entry.value, optax.MaskedNode):
        return {}
    if not isinstance(entry.value, Mapping) and jnp.ndim(entry.value) == 1:
        flat = np.asarray(entry.value)
        sizes = [int(np.prod(leaf.shape)) for leaf in params.values()]
        if isinstance(structure, Mapping) and flat.size == sum(sizes):
            parts = np.split(flat, np.cumsum(sizes)[:-1])
            return {p: part.reshape(params[p].shape) for p, part in zip(params, parts, strict=True)}
    leaves: Leaves = {}
    _descend(entry.value, structure, (), leaves)
    for path, leaf in leaves.items():
        shape, dtype = tuple(params[path].shape), np.dtype(params[path].dtype)
        if jnp.shape(leaf) != shape or np.dtype(leaf.dtype) != dtype:
            where = jax.tree_util.keystr(entry.at)
            raise ValueError(
                f"{action}: {where} of {'/'.join(map(str, path))} is {jnp.shape(leaf)} "
                f"{leaf.dtype}, its parameter {shape} {dtype}; torch keeps moments like the "
                "parameters. Flatten all params or none, and leave mu_dtype out."
            )
    return leaves


def _descend(value: Any, params: Any, path: tuple, leaves: Leaves) -> None:
    if isinstance(value, optax.MaskedNode) or value is None:
        return
    if isinstance(params, Mapping) and isinstance(value, Mapping):
        for key, part in params.items():
            _descend(value[key], part, (*path, key), leaves)
    elif not isinstance(params, Mapping):
        leaves[path] = value
    else:
        raise ValueError(
            f"the optax state holds an array of {jnp.shape(value)} for all of "
            f"{'/'.join(map(str, path)) or 'some params'}, which are not its; it was made by "
            "optax.flatten under a mask. Flatten all params, or none."
        )


def together(leaves: Leaves, like: Any) -> Any:
    """Undoes `spread`: the arrays in the shape of the field that they are for."""
    if not isinstance(like, Mapping):
        return jnp.concatenate([jnp.reshape(leaf, -1) for leaf in leaves.values()])

    def nest(part: Any, path: tuple) -> Any:
        if isinstance(part, optax.MaskedNode) or part is None:
            return part
        if isinstance(part, Mapping):
            return type(part)({key: nest(sub, (*path, key)) for key, sub in part.items()})
        return leaves[path]

    return nest(like, ())
