"""The operation at which two models part: the one whose replacement closes the gap.

Where no layer and no known formula explains a difference, every value of both forward passes is
compared, in whatever order its entries stand. Behind the values that both sides have, PyTorch's
operations are run again, one after the other with Flax's value in the place of its own; the first
with which the rest comes out like Flax's is where they part.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

from jaxprob.interop.parity.applied import applied
from jaxprob.interop.parity.explain import explained
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.gap import Gap, Labelled
from jaxprob.interop.parity.graph import Node, jax_graph, torch_graph
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["differing_operation"]

MOST_TRIED = 600
"""Replacements that are tried; between two layers there are some dozens."""

ENOUGH = 8

LAYOUT = ("view", "unsafe_view", "expand", "clone", "detach", "lift_fresh", "to_copy", "t", "alias",
          "broadcast_in_dim", "reshape", "convert_element_type", "squeeze", "unsqueeze", "copy",
          "stop_gradient", "contiguous", "expand_dims")  # fmt: skip

LOOPS = ("scan", "while")

KINDS = (
    ("softmax", "softmax"),
    ("gate", "glu"),
    ("mask", "masked_fill|where|select_n|tril|triu"),
    ("norm", "norm|rsqrt"),
    ("average pool", "avg_pool"),
    ("interpolation", "upsample|interpolate"),
    ("pooling", "mean|amax|max_pool|reduce_|cumsum|sum|std|var"),
    ("activation", "relu|gelu|tanh|sigmoid|silu|elu|softplus|hardswish|mish|erf|logistic"),
    ("clamp", "clamp|clip|hardtanh|minimum|maximum"),
    ("padding", "pad"),
    ("concatenation", "cat|concatenate"),
    ("order", "flip|rev|roll|permute|transpose|split|slice|select|gather|index|embedding"),
    ("activation", "exp|log|sin|cos|abs|max|min|pow|square|sqrt|neg"),
    ("scale", "mul|div"),
    ("terms of a sum", "add|sub"),
    ("matrix product", "bmm|mm|dot_general"),
)
"""Short name of a cause -> operations."""


def differing_operation(
    ours: FlaxSide,
    twin: TorchSide,
    target: np.ndarray,
    twin_target: np.ndarray,
    closed: float,
    loss: bool = False,
) -> tuple[str, str] | None:
    """Returns (suspect, explanation), or None where no single operation closes the gap.

    Args:
      ours: The Flax side.
      twin: The PyTorch side.
      target: Flax's values of what differs.
      twin_target: PyTorch's.
      closed: Tolerance.
      loss: Whether it is computed by the losses, behind the outputs.
    """
    twin.reset()
    theirs = torch_graph((lambda: twin.loss_value(twin())) if loss else twin)
    twin.reset()
    mine = jax_graph((lambda v: ours.loss_of(v)[0]) if loss else ours.outputs_of, ours.variables)
    end = _found(theirs, twin_target, closed)
    own_end = _found(mine, target, closed)
    if end is None or own_end is None:
        return None
    shared, own_shared = _shared(theirs, mine, closed)
    part, own_part = _between(theirs, end, shared), _between(mine, own_end, own_shared)
    if not part:
        return _more("Flax", "PyTorch", mine, own_part)
    if not own_part:
        return _more("PyTorch", "Flax", theirs, part)
    tried = 0
    for k in part:
        for j in own_part:
            if _is_shifted(mine, j):
                continue
            for replacement in _arrangements(mine[j].value, theirs[k].value.shape):
                tried += 1
                if tried > MOST_TRIED:
                    return None
                made = _replayed(theirs, part, k, replacement)
                if made is not None and _same(made, target, closed):
                    return _explained(theirs, mine, k, j, replacement, part, own_part, closed)
    return None


def _is_shifted(nodes: list[Node], j: int) -> bool:
    """Whether a value is a step within a softmax, which closes a gap whatever it is shifted by."""
    node = nodes[j]
    if node.name == "exp":
        return any(_is_shifted(nodes, i) for i in node.arguments)
    behind = [nodes[i].name for i in _behind_layouts(nodes, node.arguments)]
    return node.name == "sub" and bool({"reduce_max", "max"} & set(behind))


def _explained(
    theirs: list[Node],
    mine: list[Node],
    k: int,
    j: int,
    replacement: np.ndarray,
    part: Sequence[int],
    own_part: Sequence[int],
    closed: float,
) -> tuple[str, str] | None:
    """Names what differs at PyTorch's operation k, in whose place Flax has its value j."""
    node = theirs[k]
    sources = [theirs[i] for i in _behind_layouts(theirs, node.arguments)]
    labelled = tuple(
        Labelled(f"what {n.words or 'an input'} gives", n.value)
        for n in sources
        if n.value.dtype.kind == "f"
    )
    if any(mine[i].name in LOOPS for i in own_part if i <= j):
        return None  # what a loop computes is not looked into
    told = _told([theirs[i] for i in part if i <= k], [mine[i] for i in own_part if i <= j])
    if _usual(node) == "select_n":
        return ("mask" if told[0].startswith("order of gates") else told[0]), told[1]
    if node.name in ("mul", "div") and any(_masked(replacement, s.array) for s in labelled):
        return "scale", f"PyTorch computes {node.words}, Flax leaves these values as they are."
    gap = Gap(labelled, {}, replacement, node.value, closed)
    if replacement.size < ENOUGH:  # any two numbers are multiples of each other
        return told
    for source in labelled:
        found = applied(source.array, replacement, node.value, closed)
        # the source is PyTorch's, and Flax need not have it
        one_sided = found and re.search(r"applies no function.*something else", found[1])
        if found and found[0] != "unknown" and not one_sided:
            return found
    found = explained(gap)
    if found:
        return found
    return told


def _masked(values: np.ndarray, source: np.ndarray) -> bool:
    """Whether values are those of the source, but for some that a mask has made infinite."""
    finite = np.isfinite(values)
    if values.shape != source.shape or np.all(finite) or not np.any(finite):
        return False
    return np.allclose(values[finite], source[finite], rtol=1e-9, atol=0.0)


def _told(theirs: Sequence[Node], mine: Sequence[Node]) -> tuple[str, str]:
    """What the two sides compute from values that agree, less what both do first and last."""
    other, own = _operations(theirs), _operations(mine)
    words = f"From values that agree PyTorch computes {_chain(other)}; Flax {_chain(own)}."
    both = (list(other), list(own))
    names, own_names = [[_usual(node) for node in nodes] for nodes in (other, own)]
    while names and own_names and names[0] == own_names[0]:
        del names[0], own_names[0], other[0], own[0]
    while names and own_names and names[-1] == own_names[-1]:
        del names[-1], own_names[-1], other[-1], own[-1]
    both_names = [_usual(node) for nodes in both for node in nodes]
    spans = [{_span(node) for node in nodes if _usual(node) == "softmax"} for nodes in both]
    if spans[0] != spans[1] and all(spans):
        return "softmax axis", f"{words} The softmax runs over axes of other lengths."
    if _norms(names) != _norms(own_names):
        side = "PyTorch" if _norms(names) else "Flax"
        return "norm", f"{side} has a norm that the other side has not. {words}"
    if not names and not own_names:
        if {_usual(node) for node in both[0]} <= {"concatenate", "stack"}:
            return "unknown", f"{words} What is joined differs."
        return (
            "order of gates, chunks or operands",
            f"{words} The operands differ: by the order of chunks, by an axis, or by an index.",
        )
    if sorted(names) == sorted(own_names):
        return "order of operations", words
    if _norms(both_names) and _kind((other or own)[-1:]) == "pooling":
        return "norm", words
    if not names or not own_names:
        more, side = (own, "Flax") if own else (other, "PyTorch")
        kind = _kind(more) if len(more) == 1 else "operations missing"
        return kind, f"{side} has more: {_chain(more)}. {words}"
    if len(names) == len(own_names) == 1 and _kind(other) == _kind(own):
        return _kind(other), words
    if len(names) == 1 and _kind(other) in WHOLE:
        return _kind(other), words
    return "unknown", words


WHOLE = ("average pool", "pooling", "interpolation", "gate", "softmax", "norm", "padding")
"""What PyTorch has as one operation and JAX makes from several."""


ROOTS = ("rsqrt", "sqrt", "std", "std_mean", "var", "var_mean")
"""What norms written by hand contain."""


def _norms(names: Sequence[str]) -> bool:
    return any("norm" in name or name in ROOTS for name in names)


def _more(side: str, other: str, nodes: list[Node], part: Sequence[int]) -> tuple[str, str] | None:
    """One side goes on from a value that the other stops at."""
    chain = _operations([nodes[i] for i in part])
    if not chain or any(node.name in LOOPS for node in chain):
        return None
    kind = _kind(chain) if len(chain) == 1 else "operations missing"
    return kind, f"{side} goes on where {other} has ended: {_chain(chain)}."


def _operations(nodes: Sequence[Node]) -> list[Node]:
    """The operations without layouts, those that make a softmax taken together."""
    found = [node for node in nodes if node.name not in LAYOUT]
    for i in range(len(found)):
        names = [node.name for node in found[i : i + len(SOFTMAX)]]
        steps = SOFTMAX if names == list(SOFTMAX) else SOFTMAX[:1] + SOFTMAX[2:]
        if names[: len(steps)] == list(steps):
            last = found[i + len(steps) - 1]
            whole = last._replace(name="softmax", words=f"softmax over {_span(last)} entries")
            return _operations([*found[:i], whole, *found[i + len(steps) :]])
    return found


SOFTMAX = ("reduce_max", "max", "sub", "exp", "reduce_sum", "div")
"""What JAX makes a softmax from."""


def _span(node: Node) -> int:
    """The length of the axis along which values sum to 1."""
    for axis, length in enumerate(node.value.shape):
        if np.allclose(np.sum(node.value, axis), 1.0, rtol=1e-6):
            return length
    return 0


def _chain(nodes: Sequence[Node]) -> str:
    shown = [words for words, _ in itertools.groupby(node.words for node in nodes)]
    return ", ".join(shown[-8:]) or "nothing but another layout"


USUAL = {
    "logistic": "sigmoid", "cat": "concatenate", "amax": "reduce_max", "amin": "reduce_min",
    "sum": "reduce_sum", "bmm": "dot_general", "mm": "dot_general", "addmm": "dot_general",
    "square": "pow", "integer_pow": "pow", "max(0)": "relu", "clamp_min(0)": "relu",
    "masked_fill": "select_n", "where": "select_n", "rsub": "sub",
    "constant_pad_nd": "pad", "reciprocal": "div", "flip": "rev",
}  # fmt: skip
"""Operation of one side -> the name that it shares with the other's."""


def _usual(node: Node) -> str:
    return USUAL.get(node.words, USUAL.get(node.name, node.name))


def _kind(nodes: Sequence[Node]) -> str:
    if [node.words for node in nodes] == ["mul"]:
        return "factor missing"  # another array's, not a constant
    for kind, pattern in KINDS:
        if any(re.search(pattern, _usual(node)) for node in nodes[-1:]):
            return kind
    return "unknown"


def _behind_layouts(nodes: list[Node], arguments: Sequence[int]) -> Iterator[int]:
    for i in arguments:
        while nodes[i].name in LAYOUT and nodes[i].arguments:
            i = nodes[i].arguments[0]
        yield i


def _summary(value: np.ndarray) -> np.ndarray:
    """Numbers that do not depend on the order of the entries."""
    x = value.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.array([np.sum(x), np.sum(x * x), np.min(x), np.max(x), np.sum(np.abs(x) ** 3)])


def _same(a: np.ndarray, b: np.ndarray, closed: float) -> bool:
    """Whether two arrays hold the same numbers in any order."""
    if a.size != b.size or not a.size:
        return False
    x, y = np.sort(a, axis=None), np.sort(b, axis=None)
    if not np.array_equal(np.isfinite(x), np.isfinite(y)):
        return False
    finite = np.isfinite(x)
    if not np.any(finite):
        return False
    scale = np.max(np.abs(y[finite])) or 1.0
    return bool(np.max(np.abs(x[finite] - y[finite])) <= closed * scale)


def _found(nodes: list[Node], value: np.ndarray, closed: float) -> int | None:
    """The first node that holds a value."""
    for i, node in enumerate(nodes):
        if node.value.dtype.kind == "f" and _same(node.value, value, closed):
            return i
    return None


def _shared(theirs: list[Node], mine: list[Node], closed: float) -> tuple[set[int], set[int]]:
    """Positions of values that both sides have; inputs, weights and constants are no question."""
    by_size: dict[int, list[tuple[int, np.ndarray]]] = {}
    for i, node in enumerate(mine):
        if node.value.size and node.value.dtype.kind == "f":
            by_size.setdefault(node.value.size, []).append((i, _summary(node.value)))
    shared = {i for i, node in enumerate(theirs) if not node.name or node.value.dtype.kind != "f"}
    own = {i for i, node in enumerate(mine) if not node.name or node.value.dtype.kind != "f"}
    for i, node in enumerate(theirs):
        if i in shared or not node.value.size:
            continue
        summary = _summary(node.value)
        for j, other in by_size.get(node.value.size, ()):
            with np.errstate(invalid="ignore"):
                near = np.abs(summary - other) <= 1e3 * closed * (np.abs(other) + 1e-300)
            if np.all(near | (summary == other)) and _same(node.value, mine[j].value, closed):
                shared.add(i)
                own.add(j)
    return shared, own


def _between(nodes: list[Node], end: int, shared: set[int]) -> list[int]:
    """What was computed on the way to a value from values that both sides have, in order."""
    found, open_nodes = set(), [end]
    while open_nodes:
        i = open_nodes.pop()
        if i in found or i in shared:
            continue
        found.add(i)
        open_nodes += nodes[i].arguments
    return sorted(found)


def _arrangements(value: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A value of Flax in the shape of PyTorch's, with its axes where they usually stand there."""
    if value.dtype.kind != "f" or value.size != int(np.prod(shape)):
        return
    made: list[np.ndarray] = [value]
    if value.ndim > 2:
        made += [np.moveaxis(value, -1, 1), np.swapaxes(value, 1, 2), np.swapaxes(value, -1, -2)]
    if value.ndim == 4:
        made.append(value.transpose(0, 2, 3, 1))
    seen: list[np.ndarray] = []
    for array in made:
        array = array.reshape(shape)
        if not any(np.array_equal(array, other) for other in seen):
            seen.append(array)
            yield array


def _replayed(
    nodes: list[Node], part: Sequence[int], k: int, replacement: np.ndarray
) -> np.ndarray | None:
    """The last value of a part when operation k gives the replacement."""
    values = {k: replacement}
    for i in part:
        if i == k or not any(argument in values for argument in nodes[i].arguments):
            continue
        replay = nodes[i].replay
        if replay is None:
            return None
        try:
            values[i] = replay([values.get(a, nodes[a].value) for a in nodes[i].arguments])
        except (RuntimeError, ValueError, IndexError, TypeError):
            return None
    return values.get(part[-1])
