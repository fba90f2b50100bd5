"""Losses that differ though the outputs agree: which terms and reductions each side has."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.gap import told_apart
from jaxprob.interop.parity.report import Finding
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["in_the_loss"]

Aspects = dict[str, str]
Array = np.ndarray

SMOOTHINGS = (0.1, 0.05, 0.2, 0.01, 0.15, 0.3)

SUSPECTS = {
    "reduction": "reduction",
    "smoothing": "label smoothing",
    "targets": "shifted targets",
    "error": "another loss",
    "of": "another target",
    "reduction of the KL": "reduction of the KL",
    "weight of the KL": "weight of the KL",
    "KL": "KL",
}


def in_the_loss(
    ours: FlaxSide, twin: TorchSide, jax_output: Any, torch_output: Any, closed: float
) -> Finding:
    """Explains a loss that parts."""
    a = float(ours.loss_value(jax_output))
    b = float(twin.loss_value(torch_output))
    entries = {name: np.asarray(entry) for name, entry in ours.batch.items()}
    outputs = [np.asarray(array) for array in ours.floats(jax_output)]
    found = _formulas_apart(outputs, entries, a, b, closed)
    found = found or _ratio(a, b, entries, outputs, closed)
    if not found:
        found = (
            "unknown",
            f"Outputs agree, the loss is {a:.8g} in Flax and {b:.8g} in PyTorch.",
        )
    return Finding("", "loss", *found)


def _ratio(
    a: float, b: float, entries: Mapping[str, Array], outputs: list[Array], closed: float
) -> tuple[str, str] | None:
    ratio = a / b if b else np.inf

    def near(value: float, of: float) -> bool:
        return bool(abs(value / of - 1) <= closed)

    if abs(ratio + 1) <= closed:
        return "sign", "Flax's loss is the negative of PyTorch's."
    rows = len(next(iter(entries.values())))
    sizes = {rows: "the number of rows: one side sums where the other takes the mean"}
    named = {f'"{name}"': array for name, array in entries.items()}
    named |= {f"output {i}": array for i, array in enumerate(outputs)}
    for name, array in named.items():
        sizes.setdefault(array.size, f"the number of values in {name}")
        if array.ndim > 1 and array.shape[0]:
            sizes.setdefault(array.size // array.shape[0], f"the size of one row of {name}")
        if array.ndim > 2:
            sizes.setdefault(array.shape[-1], f"the last axis of {name}")
    sides = ((ratio, "Flax"), (1 / ratio if ratio else np.inf, "PyTorch"))
    for size, words in sizes.items():
        for value, side in sides:
            if size > 1 and near(value, size):
                if size == 2:
                    return (
                        "reduction or factor 2",
                        f"{side}'s loss is twice the other: a mean over {words} where one side "
                        "sums, or a factor of 1/2 (optax.l2_loss has it, mse_loss has not).",
                    )
                return "reduction", f"{side}'s loss is larger by {size}, {words}."
    for factor in (2.0, 0.5):
        if near(ratio, factor):
            return (
                "factor 2",
                f"Flax's loss is {factor:g} times PyTorch's (optax.l2_loss has a 1/2, mse_loss "
                "has not).",
            )
    for name, array in entries.items():
        seen = np.sum(array) if np.all(np.isin(np.unique(array), (0, 1))) else 0
        if seen:
            for value, side in sides:
                if near(value, array.size / float(seen)):
                    return (
                        "mask of a mean",
                        f'{side} divides by what "{name}" keeps, the other side by all '
                        f"{array.size} entries, padding counted.",
                    )
    constant = 0.5 * np.log(2 * np.pi)
    for size in {1, *sizes}:
        if abs(abs(a - b) / (size * constant) - 1) <= closed:
            return (
                "normalising constant",
                f"The losses differ by {size} x log(2 pi) / 2: one side drops it.",
            )
    return None


def _formulas_apart(
    outputs: list[Array], entries: Mapping[str, Array], a: float, b: float, closed: float
) -> tuple[str, str] | None:
    """What each side computes, where both are known."""
    with np.errstate(all="ignore"):
        first = [term for term in _errors(outputs, entries) if np.isfinite(term[1])]
        kl = [term for term in _divergences(outputs) if np.isfinite(term[1])]
    ours, theirs = (list(_made(first, kl, value, closed)) for value in (a, b))
    for mine, other in itertools.product(ours[:8], theirs[:8]):
        found = told_apart(mine, other)
        if found and len(found[0]) == 1:
            return SUSPECTS[found[0][0]], found[1]
    if ours and theirs:
        found = told_apart(ours[0], theirs[0])
        if found:
            return SUSPECTS[found[0][0]], found[1]
    return None


def _made(
    first: list[tuple[Aspects, float]], kl: list[tuple[Aspects, float]], value: float, closed: float
) -> Iterator[Aspects]:
    """The formulas that give the value."""
    for aspects, term in first:
        if abs(term - value) <= closed * abs(value):
            yield aspects
    for (aspects, term), (more, divergence) in itertools.product(first, kl):
        weight = (value - term) / divergence if divergence else np.inf
        plain = float(f"{weight:.2g}") if np.isfinite(weight) else 0.0
        if 1e-6 < plain < 1e4 and abs(term + plain * divergence - value) <= closed * abs(value):
            yield {**aspects, **more, "weight of the KL": f"{plain:g}"}


def _errors(outputs: list[Array], entries: Mapping[str, Array]) -> Iterator[tuple[Aspects, float]]:
    for output in outputs:
        targets = dict(entries)
        if output.ndim == 2 and output.shape[0] == output.shape[1]:
            targets["the row's own number"] = np.arange(len(output))
        for name, target in targets.items():
            if target.dtype.kind in "iu":
                yield from _cross_entropies(output, name, target, entries)
            if target.dtype.kind in "fiu" and target.size == output.size:
                shaped = target.reshape(output.shape)
                for words, error in _elementwise(output, shaped.astype(float)):
                    for reduction, value in _reductions(error, entries):
                        yield {"error": words, "of": name, "reduction": reduction}, value


def _elementwise(output: Array, target: Array) -> Iterator[tuple[str, Array]]:
    difference = output - target
    yield "squared error", difference**2
    yield "half the squared error", 0.5 * difference**2
    size = np.abs(difference)
    yield "absolute error", size
    yield "Huber's, delta 1", np.where(size <= 1, 0.5 * size**2, size - 0.5)
    if np.min(target) >= 0 and np.max(target) <= 1:
        yield "binary cross entropy of logits", np.logaddexp(0, output) - target * output
        if np.min(output) > 0 and np.max(output) < 1:
            entropy = -target * np.log(output) - (1 - target) * np.log1p(-output)
            yield "binary cross entropy of probabilities", entropy
    if np.min(target) >= 0:
        yield "Poisson's, of log rates", np.exp(output) - target * output


def _cross_entropies(
    output: Array, name: str, target: Array, entries: Mapping[str, Array]
) -> Iterator[tuple[Aspects, float]]:
    classes = output.shape[-1]
    if output.shape[:-1] != target.shape or np.min(target) < 0 or np.max(target) >= classes:
        return
    logs = output - np.logaddexp.reduce(output, -1, keepdims=True)
    pairs = [("of the same step", logs, target)]
    if target.ndim == 2 and target.shape[1] > 1:
        pairs += [
            ("of the next step", logs[:, :-1], target[:, 1:]),
            ("of the step before", logs[:, 1:], target[:, :-1]),
        ]
    for words, log, wanted in pairs:
        own = -np.take_along_axis(log, wanted[..., None], -1)[..., 0]
        uniform = -np.mean(log, -1)
        for smoothing in (0.0, *SMOOTHINGS):
            error = (1 - smoothing) * own + smoothing * uniform
            for reduction, value in _reductions(error, entries, wanted):
                yield (
                    {
                        "error": "cross entropy",
                        "of": name,
                        "targets": words,
                        "smoothing": f"{smoothing:g}",
                        "reduction": reduction,
                    },
                    value,
                )


def _reductions(
    error: Array, entries: Mapping[str, Array], labels: Array | None = None
) -> Iterator[tuple[str, float]]:
    rows = len(error)
    yield "mean", float(np.mean(error))
    yield "sum", float(np.sum(error))
    if error.ndim > 1:
        yield "sum over a row, mean over rows", float(np.sum(error) / rows)
    masks = {
        f'"{name}"': array
        for name, array in entries.items()
        if array.ndim and array.shape == error.shape[: array.ndim]
        and np.all(np.isin(np.unique(array), (0, 1))) and not np.all(array)
    }  # fmt: skip
    for name, array in entries.items():
        lengths = array.dtype.kind == "i" and array.shape == (rows,)
        if lengths and error.ndim > 1 and 0 < np.min(array) and np.max(array) <= error.shape[1]:
            masks[f'the lengths "{name}"'] = np.arange(error.shape[1])[None] < array[:, None]
    if labels is not None and np.any(labels == 0) and not np.all(labels == 0):
        masks["labels that are not 0"] = labels != 0
    for words, mask in masks.items():
        keep = mask.reshape(*mask.shape, *(1,) * (error.ndim - mask.ndim)).astype(float)
        total = float(np.sum(keep * error))
        yield f"mean over {words}", total / float(np.sum(np.broadcast_to(keep, error.shape)))
        yield f"sum over {words} by all entries", total / error.size
        yield f"sum over {words}", total
        yield f"sum over {words}, mean over rows", total / rows
        if error.ndim == 2:
            counts = np.sum(np.broadcast_to(keep, error.shape), 1)
            each = np.sum(keep * error, 1) / counts
            yield f"mean over {words} of each row, then over rows", float(np.mean(each))


def _divergences(outputs: list[Array]) -> Iterator[tuple[Aspects, float]]:
    """KL from N(mu, sigma) to N(0, 1) of two outputs of one shape."""
    for mu, other in itertools.permutations(outputs, 2):
        if mu.shape != other.shape:
            continue
        for words, log_variance in (("log variance", other), ("log deviation", 2 * other)):
            kl = 0.5 * (mu**2 + np.exp(log_variance) - 1 - log_variance)
            for reduction, value in _reductions(kl, {}):
                yield {"KL": words, "reduction of the KL": reduction}, value
