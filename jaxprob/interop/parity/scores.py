"""Attention written by hand: which scale, mask, axis and split of the heads each side has."""

from collections.abc import Iterator

import numpy as np

from jaxprob.interop.parity.gap import Gap, told_apart

__all__ = ["handwritten_attention"]

ROWS = 2
"""Rows of the batch that are looked at; the rest follows the same formula."""

MOST_HEADS = 16

SUSPECTS = {
    "scale": "attention scale",
    "mask": "attention mask",
    "softmax": "softmax axis",
    "heads": "split of the heads",
    "merge": "merge of the heads",
    "projections": "projection order",
}

Aspects = dict[str, str]
Heads = tuple[np.ndarray, np.ndarray, np.ndarray]


def handwritten_attention(gap: Gap) -> tuple[str, str] | None:
    """Returns (suspect, explanation) if both sides compute an attention, in two ways."""
    if gap.target.ndim != 3 or gap.target.shape != gap.twin_target.shape:
        return None
    ours = _found(gap, gap.target[:ROWS])
    theirs = ours and _found(gap, gap.twin_target[:ROWS])
    found = told_apart(ours, theirs)
    if not found:
        return None
    assert ours is not None
    assert theirs is not None
    aspects, words = found
    if aspects == ["mask"]:
        return _mask_suspect(ours["mask"], theirs["mask"]), words
    return SUSPECTS[aspects[0]], words


def _mask_suspect(ours: str, theirs: str) -> str:
    if "none" in (ours, theirs):
        return "mask missing"
    if ours.replace(", inverted", "") == theirs.replace(", inverted", ""):
        return "mask sense"
    shifted = all(side.startswith("causal") and " and " not in side for side in (ours, theirs))
    return "shifted mask" if shifted else "attention mask"


def _found(gap: Gap, target: np.ndarray) -> Aspects | None:
    for aspects, heads in _projections(gap, target):
        masks = list(_masks(gap, heads[0].shape[2], heads[1].shape[2]))
        for scale, axis in _settings(aspects):
            size = heads[0].shape[-1]
            scores = np.einsum("bhqd,bhkd->bhqk", heads[0], heads[1]) * _factor(
                scale, size, target.shape[-1]
            )
            for mask, keep in masks:
                with np.errstate(all="ignore"):
                    kept = np.where(keep, scores, -np.inf) if keep is not None else scores
                    weights = np.exp(kept - np.max(kept, axis, keepdims=True))
                    weights = weights / np.sum(weights, axis, keepdims=True)
                    made = np.einsum("bhqk,bhkd->bhqd", weights, heads[2])
                for merge, merged in _merged(made, aspects["heads"]):
                    if gap.close(merged, target):
                        words = {-1: "over the keys", -2: "over the queries", 1: "over the heads"}
                        rest = {"softmax": words[axis], "mask": mask, "merge": merge}
                        return {**aspects, "scale": scale, **rest}
    return None


SCALES = (
    "1 / sqrt(head size)",
    "1 / sqrt(width)",
    "none",
    "1 / head size",
    "sqrt(head size)",
    "1 / width",
)


def _factor(scale: str, size: int, width: int) -> float:
    values = (size**-0.5, width**-0.5, 1.0, 1.0 / size, size**0.5, 1.0 / width)
    return values[SCALES.index(scale)]


def _settings(aspects: Aspects) -> Iterator[tuple[str, int]]:
    """The usual scale and axis, and one of them changed where the rest is usual."""
    yield SCALES[0], -1
    if aspects["projections"] == "query, key, value" and "split" not in aspects["heads"]:
        yield from ((scale, -1) for scale in SCALES[1:])
        yield from ((SCALES[0], axis) for axis in (-2, 1))


def _projections(gap: Gap, target: np.ndarray) -> Iterator[tuple[Aspects, Heads]]:
    rows, length, width = target.shape
    divisors = [h for h in range(1, MOST_HEADS + 1) if width % h == 0]
    outputs = [array[:ROWS] for _, array in gap.outputs() if array.ndim == 3]
    names = ("query, key, value", "key, query, value", "query, value, key", "value, query, key",
             "key, value, query", "value, key, query")  # fmt: skip
    orders = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    single = [array for array in outputs if array.shape[-1] == width and len(array) == rows]
    fused = [a for a in outputs if a.shape[-1] == 3 * width and a.shape[1] == length]
    for heads in divisors:
        for layout in ("heads first", "split with the heads last", "split without a transpose"):
            for array in fused[:1]:
                stacked = np.split(array, 3, axis=-1)
                inside = array.reshape(rows, length, heads, 3, width // heads)
                within = [inside[..., i, :].reshape(rows, length, width) for i in range(3)]
                for parts, kind in ((stacked, ""), (within, ", split within each head")):
                    for name, order in zip(names, orders, strict=True):
                        found = tuple(_split(parts[i], heads, layout) for i in order)
                        yield {"projections": name, "heads": f"{heads}, {layout}{kind}"}, found
            for triple in _triples(single):
                for name, order in zip(names, orders, strict=True):
                    if triple[order[1]].shape != triple[order[2]].shape:
                        continue
                    if triple[order[0]].shape[1] != length:
                        continue
                    found = tuple(_split(triple[i], heads, layout) for i in order)
                    yield {"projections": name, "heads": f"{heads}, {layout}"}, found


def _triples(arrays: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The last three, in the order of their calls; and with the one before in their place."""
    if len(arrays) >= 3:
        yield arrays[2::-1]
    if len(arrays) >= 4:
        yield arrays[3:0:-1]


def _split(array: np.ndarray, heads: int, layout: str) -> np.ndarray:
    rows, length, width = array.shape
    if layout == "heads first":
        return array.reshape(rows, length, heads, width // heads).transpose(0, 2, 1, 3)
    if "without" in layout:
        return array.reshape(rows, heads, length, width // heads)
    return array.reshape(rows, length, width // heads, heads).transpose(0, 3, 1, 2)


def _merged(array: np.ndarray, heads: str) -> Iterator[tuple[str, np.ndarray]]:
    rows, _, length, _ = array.shape
    axes = (0, 2, 3, 1) if "heads last" in heads else (0, 2, 1, 3)
    yield "the heads behind each other", array.transpose(axes).reshape(rows, length, -1)
    yield "without a transpose", array.reshape(rows, length, -1)


def _masks(gap: Gap, queries: int, keys: int) -> Iterator[tuple[str, np.ndarray | None]]:
    ones = np.ones((queries, keys), bool)
    causal = [
        ("causal", np.tril(ones)),
        ("causal, the present left out", np.tril(ones, -1)),
        ("causal, the next step seen", np.tril(ones, 1)),
        ("causal, inverted", np.triu(ones, 1)),
        ("causal, backwards", np.triu(ones)),
    ]
    padding = []
    for name, entry in gap.entries.items():
        if entry.shape[1:] == (keys,) and np.all(np.isin(np.unique(entry), (0, 1))):
            keep = entry[:ROWS, None, None].astype(bool)
            padding += [(f'"{name}"', keep), (f'"{name}", inverted', ~keep)]
        if entry.shape[-2:] == (queries, keys) and np.all(np.isin(np.unique(entry), (0, 1))):
            keep = entry.astype(bool)
            keep = keep[:ROWS, None] if keep.ndim == 3 else keep
            padding += [(f'"{name}"', keep), (f'"{name}", inverted', ~keep)]
        if entry.ndim == 1 and len(entry) == len(gap.target) and entry.dtype.kind == "i":
            keep = (np.arange(keys) < entry[:ROWS, None])[:, None, None]
            padding += [(f'"{name}" as lengths', keep)]
    yield "none", None
    yield from causal
    yield from padding
    yield from ((f"causal and {name}", causal[0][1] & keep) for name, keep in padding)
