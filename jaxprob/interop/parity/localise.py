"""Where two models part, and why: a suspect is named only if its correction closes the gap."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxprob.interop.parity.applied import applied, residual
from jaxprob.interop.parity.explain import explained
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.functions import RELATIONS
from jaxprob.interop.parity.gap import Gap, Labelled
from jaxprob.interop.parity.gradients import in_the_gradient, in_the_statistics
from jaxprob.interop.parity.losses import in_the_loss
from jaxprob.interop.parity.operations import differing_operation
from jaxprob.interop.parity.optimizers import suspect_optimizer
from jaxprob.interop.parity.orders import rearranged
from jaxprob.interop.parity.outputs import aligned, pairs, relative_error, to_numpy
from jaxprob.interop.parity.packed import BEHIND, behind_ends
from jaxprob.interop.parity.padded_input import padded_before
from jaxprob.interop.parity.pooling import pooling
from jaxprob.interop.parity.report import Comparison, Finding
from jaxprob.interop.parity.runs import as_flax_runs
from jaxprob.interop.parity.torch_side import TorchSide
from jaxprob.interop.parity.trace import Call, Matched
from jaxprob.interop.parity.variants import variants

__all__ = ["localise"]

AGREE = {"float64": 1e-9, "float32": 3e-5}
"""Errors up to this are rounding; any known trap is at least 100 times larger in float64."""

RUN = 1e-6
"""Runs part by less where a schedule of optax is in float32, or PyTorch adds 1e-6 to a norm."""

CLOSED = {"float64": 1e-9, "float32": 1e-4}
"""A correction has closed the gap below this."""


@np.errstate(all="ignore")
def localise(
    ours: FlaxSide,
    twin: TorchSide,
    comparisons: Sequence[Comparison],
    trace: "Trace",
    jax_output: Any,
    torch_output: Any,
    optimizer: tuple[Any, Callable] | None,
    steps: int,
    dtype: str,
) -> list[Finding]:
    """Returns the first disagreement with its suspect, or nothing.

    The quantities depend on each other in the order outputs, loss, gradients, trajectory; only the
    first that differs is examined.
    """
    agree = AGREE[dtype]
    run = RUN if dtype == "float64" else agree
    wrong = [
        c for c in comparisons if not c.error <= (run if c.quantity == "trajectory" else agree)
    ]
    if not wrong:
        return []
    values = [c for c in wrong if c.quantity == "value"]
    stats = [c for c in values if c.name.startswith("batch_stats/")]
    if [c for c in values if c not in stats and c.name != "loss"]:
        entries = {name: np.asarray(entry) for name, entry in ours.batch.items()}
        trace = trace._replace(entries=entries, missed=[])
        found = _in_the_model(values, trace, jax_output, torch_output, dtype)
        if found.suspect == "unknown" and trace.missed:
            named = differing_operation(ours, twin, *trace.missed[-1], CLOSED[dtype])
            found = _renamed(found, named)
        return [found]
    if stats:
        return [in_the_statistics(ours, twin, stats[0])]
    if values:
        found = in_the_loss(ours, twin, jax_output, torch_output, CLOSED[dtype])
        if found.suspect == "unknown":
            losses = [
                np.asarray(ours.loss_value(jax_output)),
                to_numpy(twin.loss_value(torch_output)),
            ]
            named = differing_operation(ours, twin, *losses, CLOSED[dtype], loss=True)
            if named and named[0] == "pooling":
                named = "reduction", named[1]
            found = _renamed(found, named)
        return [found]
    gradients = [c for c in wrong if c.quantity == "grad"]
    if gradients:
        return [in_the_gradient(ours, twin, gradients)]
    assert optimizer is not None
    return [suspect_optimizer(ours, twin, wrong, optimizer, steps, CLOSED[dtype])]


def _renamed(found: Finding, named: tuple[str, str] | None) -> Finding:
    if not named:
        return found
    return dataclasses.replace(found, suspect=named[0], explanation=named[1])


class Trace(NamedTuple):
    """All that was recorded of both forward passes, and the batch."""

    matched: list[Matched]
    jax_calls: list[Call]
    torch_calls: list[Call]
    entries: Mapping[str, np.ndarray] = {}
    missed: list[tuple[np.ndarray, np.ndarray]] = []  # what no known cause explains

    def position(self, call: Call) -> int:
        """Where a call stands among PyTorch's."""
        return next(i for i, other in enumerate(self.torch_calls) if other is call)

    def uneven(self) -> tuple[str, str] | None:
        """A layer that the two sides call another number of times."""
        both = {m.twin.path for m in self.matched}
        ours = Counter(call.path for call in self.jax_calls if call.output.size)
        for path, number in list(ours.items()):  # runs of one layer of PyTorch
            layer = re.sub(r"\.l\d+(_reverse)?$", "", path)
            ours[layer] = max(ours[layer], number)
        theirs = Counter(call.path for call in self.torch_calls)
        for path in (call.path for call in self.torch_calls):
            if path in both and ours[path] != theirs[path]:
                return (
                    "number of calls",
                    f"{path} is called {ours[path]} times in Flax, {theirs[path]} in PyTorch.",
                )
        return None


def _in_the_model(wrong, trace: Trace, jax_output, torch_output, dtype) -> Finding:
    agree, closed, matched = AGREE[dtype], CLOSED[dtype], trace.matched
    first = next((m for m in matched if not m.output_error <= agree), None)
    if first is None:
        return _after_the_last(trace, wrong, jax_output, torch_output, closed)
    path, kind = first.twin.path, type(first.twin.layer).__name__
    padded = padded_before(first, closed) if np.isinf(first.input_error) else None
    if padded:
        return padded
    inner = [m for m in matched if m.twin.path.startswith(f"{path}.")]
    if first.input_error <= agree and not inner:
        others = as_flax_runs(first.twin, first.ours) if hasattr(
            first.twin.layer, "bidirectional"
        ) else ()  # fmt: skip
        for variant in itertools.chain(others, variants(first.twin, first.ours)):
            if _closes(variant.run, first.twin, first.ours.output, closed):
                elsewhere = variant.suspect == "initial state" and trace.uneven()
                if elsewhere:  # whatever made the state
                    return Finding(path, "in", *elsewhere)
                return Finding(path, "in", variant.suspect, variant.explanation)
        trace.missed.append((first.ours.output, first.twin.output))
        found = rearranged(first.ours.output, aligned(first.ours.output, first.twin.output))
        if found and found[0] == "shape":
            found = (
                "output shape",
                f"The layer gives {first.ours.output.shape} in Flax and {first.twin.output.shape} "
                "in PyTorch: padding, stride or dilation differ.",
            )
        return Finding(
            path,
            "in",
            *(
                found
                or (
                    "unknown",
                    f"Equal inputs give outputs that differ by {first.output_error:.1e}; no known "
                    f"correction of {kind} closes the gap.",
                )
            ),
        )
    end = trace.position(first.twin)
    if first.input_error <= agree:
        target, twin_target = first.ours.output, first.twin.output
        before = [m for m in inner if m.output_error <= agree]
    else:
        target, twin_target = first.ours.inputs[0], first.twin.inputs[0]
        before = [
            m
            for m in itertools.takewhile(lambda m: m is not first, matched)
            if m.output_error <= agree
        ]
        for other in matched:
            if other is not first and not other.input_error <= agree and other.twin.inputs:
                taken = other.twin.inputs[0]
                if relative_error(target, aligned(target, taken)) <= closed:
                    return Finding(
                        other.twin.path,
                        "in",
                        "order of layers",
                        f"What enters {path} in Flax enters {other.twin.path} in PyTorch: the "
                        "layers are applied in another order.",
                    )
    source = before[-1] if before else None
    words = "leaves" if first.input_error <= agree else "enters"
    return _between(source, trace, end, target, twin_target, closed, path, words)


def _between(
    source: Matched | None,
    trace: Trace,
    end: int,
    target: np.ndarray,
    twin_target: np.ndarray,
    closed: float,
    following: str,
    words: str,
) -> Finding:
    """A function without weights, after the layer `source` and before `following`."""
    layer = source.twin.path if source else ""
    place = "after" if source else "in"
    layer = layer or following
    # PyTorch may have it as a module that Flax has not
    start = trace.position(source.twin) + 1 if source else 0
    for call in trace.torch_calls[start:end]:
        if list(call.layer.children()):
            continue
        for variant in variants(call):
            if _closes(variant.run, call, target, closed):
                return Finding(layer, place, variant.suspect, variant.explanation)
    trace.missed.append((target, twin_target))
    twin_target = aligned(target, twin_target)
    valid = source.twin.valid if source else None
    if valid is not None and behind_ends(valid, target, twin_target, closed):
        return Finding(layer, place, *BEHIND)
    one_sided = None
    gap = _gap(trace, source, target, twin_target, closed)
    if source is not None:
        earlier = [array for _, array in gap.sources]
        found = applied(source.ours.output, target, twin_target, closed, earlier)
        if found and found[0] != "unknown":
            return Finding(layer, place, *found)
        one_sided = found
        found = residual(earlier, target, twin_target, closed)
        if found:
            return Finding(layer, place, *found)
        found = pooling(source.ours.output, target, twin_target, closed)
        if found:
            return Finding(layer, place, *found)
    found = explained(gap) or trace.uneven() or one_sided
    if found:
        return Finding(layer, place, *found)
    names = {m.twin.path for m in trace.matched}
    for call in trace.torch_calls[start:end]:
        if call.path not in names and any(True for _ in call.layer.parameters(recurse=False)):
            return Finding(
                call.path,
                "in",
                "unknown",
                f"What {words} {following or 'the output'} differs, and no layer of Flax runs "
                f"under the name {call.path}, so that its own output could not be compared.",
            )
    error = relative_error(target, twin_target)
    return Finding(
        layer,
        place,
        "unknown",
        f"What {words} {following or 'the output'} differs by {error:.1e}, though all layers "
        "before agree: look at the functions between them.",
    )


def _gap(
    trace: Trace, source: Matched | None, target: np.ndarray, twin_target: np.ndarray, closed: float
) -> Gap:
    """What may have made the target: the layers up to the source, the source's own first."""
    until = []
    if source is not None:
        until = [*itertools.takewhile(lambda m: m is not source, trace.matched), source]
    sources = []
    for m in reversed(until):
        sources.append(Labelled(f"what {m.twin.path} gives", m.ours.output))
        sources += [Labelled(f"what {m.twin.path} takes", array) for array in m.ours.inputs]
    return Gap(tuple(sources), trace.entries, target, twin_target, closed)


def _closes(run: Callable, call: Call, target: np.ndarray, closed: float) -> bool:
    import torch

    try:
        with torch.no_grad():
            output = run(*call.raw, **call.kwargs)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False  # a correction that does not fit this layer
    while isinstance(output, tuple):
        output = output[0]
    array = to_numpy(output)
    return relative_error(target, aligned(target, array)) <= closed


def _permuted(broken: Sequence[tuple[str, Any, Any]], closed: float) -> bool:
    """Whether each array of Flax is one of PyTorch's under another name."""
    return all(
        any(
            a.shape == other.shape and relative_error(a, other) <= closed
            for name, _, other in broken
            if name != own
        )
        for own, a, _ in broken
    )


_NONE = np.empty(0)

FIRST_ARGUMENT = (
    " The first argument of a distribution over classes is the logits in distrax and here, the "
    "probabilities in PyTorch: name it, probs= or logits=."
)


def _after_the_last(trace: Trace, wrong, jax_output, torch_output, closed) -> Finding:
    """All layers agree, the outputs do not: what stands after the last layer."""
    last = next((m for m in reversed(trace.matched)), None)
    earlier = [array for _, array in _gap(trace, last, _NONE, _NONE, closed).sources]
    layer, place = (last.twin.path, "after") if last else ("", "in")
    names = {c.name for c in wrong}
    broken = [pair for pair in pairs(jax_output, torch_output) if pair[0] in names]
    if len(broken) > 1 and _permuted(broken, closed):
        listed = ", ".join(name for name, _, _ in broken)
        words = f"Both sides give the same arrays in another order: {listed}."
        return Finding(layer, place, "order of the outputs", words)
    for name, a, b in broken:
        if a.shape != b.shape:
            continue
        trace.missed.append((a, b))
        source = last.ours.output if last else np.empty(0)
        found = applied(source, a, b, closed, both=True)
        if found:
            if name.endswith("logits") and re.match(r"Flax applies (sigmoid|softmax)", found[1]):
                found = "probabilities as logits", found[1] + FIRST_ARGUMENT
            return Finding(layer, place, found[0], f"{name}: {found[1]}")
        for suspect, (function, words) in RELATIONS.items():
            with np.errstate(all="ignore"):
                if relative_error(a, function(b)) <= closed:
                    return Finding(layer, place, suspect, f"Flax's {name} {words} PyTorch's.")
        found = applied(source, a, b, closed, earlier)
        if not found or found[0] == "unknown":
            gap = _gap(trace, last, a, b, closed)
            found = residual(earlier, a, b, closed) or explained(gap) or trace.uneven() or found
        if found:
            return Finding(layer, place, found[0], f"{name}: {found[1]}")
    if broken and any(a.shape != b.shape for _, a, b in broken):
        name, a, b = next(p for p in broken if p[1].shape != p[2].shape)
        return Finding(layer, place, "shape", f"{name} is {a.shape} in Flax, {b.shape} in PyTorch.")
    if not broken:
        worst = max(wrong, key=lambda c: c.error)
        if worst.error == float("inf"):
            return Finding(
                "", "in", "event axes",
                f"The parameters agree, but {worst.name} has the {worst.note}: one side sums over "
                "the event (Independent), the other does not.",
            )  # fmt: skip
        return Finding(
            "", "in", "density",
            f"The parameters agree, but {worst.name} differs by {worst.error:.1e}: another family, "
            "or a dropped normalising constant.",
        )  # fmt: skip
    return Finding(
        layer,
        place,
        "unknown",
        f"All layers agree; {', '.join(sorted(names))} differ by functions after the last.",
    )
