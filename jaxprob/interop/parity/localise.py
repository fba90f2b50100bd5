"""Where two models part, and why: a suspect is named only if its correction closes the gap."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxprob.interop.parity.applied import applied, residual
from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.functions import RELATIONS
from jaxprob.interop.parity.optimizers import suspect_optimizer
from jaxprob.interop.parity.orders import rearranged
from jaxprob.interop.parity.outputs import aligned, pairs, relative_error, to_numpy
from jaxprob.interop.parity.pooling import pooling
from jaxprob.interop.parity.report import Comparison, Finding
from jaxprob.interop.parity.torch_side import TorchSide
from jaxprob.interop.parity.trace import Call, Matched
from jaxprob.interop.parity.variants import variants

__all__ = ["localise"]

AGREE = {"float64": 1e-9, "float32": 3e-5}
"""Errors up to this are rounding; any known trap is at least 100 times larger in float64."""

CLOSED = {"float64": 1e-9, "float32": 1e-4}
"""A correction has closed the gap below this."""


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
    wrong = [c for c in comparisons if not c.error <= agree]
    if not wrong:
        return []
    values = [c for c in wrong if c.quantity == "value"]
    stats = [c for c in values if c.name.startswith("batch_stats/")]
    if [c for c in values if c not in stats and c.name != "loss"]:
        return [_in_the_model(values, trace, jax_output, torch_output, dtype)]
    if stats:
        return [_running_statistics(ours, twin, stats[0])]
    if values:
        return [_in_the_loss(ours, twin, jax_output, torch_output, dtype)]
    gradients = [c for c in wrong if c.quantity == "grad"]
    if gradients:
        return [_in_the_gradient(ours, twin, gradients)]
    assert optimizer is not None
    return [suspect_optimizer(ours, twin, wrong, optimizer, steps, CLOSED[dtype])]


class Trace(NamedTuple):
    """All that was recorded of both forward passes."""

    matched: list[Matched]
    jax_calls: list[Call]
    torch_calls: list[Call]

    def position(self, call: Call) -> int:
        """Where a call stands among PyTorch's."""
        return next(i for i, other in enumerate(self.torch_calls) if other is call)

    def uneven(self) -> tuple[str, str] | None:
        """A layer that the two sides call another number of times."""
        both = {m.twin.path for m in self.matched}
        ours = Counter(call.path for call in self.jax_calls if call.output.size)
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
    inner = [m for m in matched if m.twin.path.startswith(f"{path}.")]
    if first.input_error <= agree and not inner:
        for variant in variants(first.twin, first.ours.layer):
            if _closes(variant.run, first.twin, first.ours.output, closed):
                return Finding(path, "in", variant.suspect, variant.explanation)
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
    return _between(source, trace, end, target, twin_target, closed, path)


def _between(
    source: Matched | None,
    trace: Trace,
    end: int,
    target: np.ndarray,
    twin_target: np.ndarray,
    closed: float,
    following: str,
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
    twin_target = aligned(target, twin_target)
    one_sided = None
    if source is not None:
        earlier = _before(trace, source)
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
    found = rearranged(target, twin_target) or trace.uneven() or one_sided
    if found:
        return Finding(layer, place, *found)
    names = {m.twin.path for m in trace.matched}
    for call in trace.torch_calls[start:end]:
        if call.path not in names and any(True for _ in call.layer.parameters(recurse=False)):
            return Finding(
                call.path,
                "in",
                "unknown",
                f"What enters {following or 'the output'} differs, and no layer of Flax runs under "
                f"the name {call.path}, so that its own output could not be compared.",
            )
    error = relative_error(target, twin_target)
    return Finding(
        layer,
        place,
        "unknown",
        f"What enters {following or 'the output'} differs by {error:.1e}, though all layers before "
        "agree: look at the functions between them.",
    )


def _before(trace: Trace, source: Matched) -> list[np.ndarray]:
    """What the layers up to the source gave and took in Flax, the source's own first."""
    until = [*itertools.takewhile(lambda m: m is not source, trace.matched), source]
    return [array for m in reversed(until) for array in (m.ours.output, *m.ours.inputs)]


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


def _after_the_last(trace: Trace, wrong, jax_output, torch_output, closed) -> Finding:
    """All layers agree, the outputs do not: what stands after the last layer."""
    last = next((m for m in reversed(trace.matched)), None)
    earlier = _before(trace, last) if last else []
    layer, place = (last.twin.path, "after") if last else ("", "in")
    names = {c.name for c in wrong}
    broken = [pair for pair in pairs(jax_output, torch_output) if pair[0] in names]
    for name, a, b in broken:
        if a.shape != b.shape:
            continue
        source = last.ours.output if last else np.empty(0)
        found = applied(source, a, b, closed, both=True)
        if found:
            return Finding(layer, place, found[0], f"{name}: {found[1]}")
        for suspect, (function, words) in RELATIONS.items():
            with np.errstate(all="ignore"):
                if relative_error(a, function(b)) <= closed:
                    return Finding(layer, place, suspect, f"Flax's {name} {words} PyTorch's.")
        found = applied(source, a, b, closed, earlier)
        if not found or found[0] == "unknown":
            found = residual(earlier, a, b, closed) or rearranged(a, b) or trace.uneven() or found
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


def _running_statistics(ours: FlaxSide, twin: TorchSide, worst: Comparison) -> Finding:
    layer = ours.layer_of(worst.name)
    _, _, new = ours.forward()
    _, _, state = twin.forward()
    start, twin_new = ours.flat(ours.variables), ours.stats_of(state)
    group = worst.name.rsplit("/", 1)[0]
    mean = next((n for n in (f"{group}/mean", f"{group}/running_mean") if n in new), "")
    if mean:
        with np.errstate(all="ignore"):
            ratio = (new[mean] - start[mean]) / (twin_new[mean] - start[mean])
        factor = float(np.median(ratio))
        constant = np.all(np.abs(ratio - factor) <= 1e-6 * abs(factor))
        if constant and abs(factor - 1) > 1e-6:
            return Finding(
                layer,
                "in",
                "momentum",
                f"Flax's running mean moves {factor:.4g} times as far as PyTorch's: Flax's "
                "momentum is 1 - PyTorch's (0.9 against 0.1).",
            )
        if constant:
            return Finding(
                layer,
                "in",
                "running variance",
                "Linen's running variance is biased (divides by n), PyTorch's is not (n - 1): they "
                f"differ by {worst.error:.1e}. Use jaxprob.nn.BatchNorm.",
            )
    return Finding(layer, "in", "running statistics", f"{worst.name} differs by {worst.error:.1e}.")


def _in_the_loss(ours: FlaxSide, twin: TorchSide, jax_output, torch_output, dtype) -> Finding:
    a = float(ours.loss_value(jax_output))
    b = float(twin.loss_value(torch_output))
    rows = len(next(iter(ours.batch.values())))
    sizes = {rows: "the number of rows: one side sums where the other takes the mean"}
    for name, array in ours.batch.items():
        sizes.setdefault(array.size, f'the number of values in "{name}"')
        if array.ndim > 1 and array.shape[0]:
            sizes.setdefault(array.size // array.shape[0], f'the size of one row of "{name}"')
    ratio = a / b if b else np.inf
    if abs(ratio + 1) <= CLOSED[dtype]:
        return Finding("", "loss", "sign", "Flax's loss is the negative of PyTorch's.")
    for size, words in sizes.items():
        for value, side in ((ratio, "Flax"), (1 / ratio if ratio else np.inf, "PyTorch")):
            if size > 1 and abs(value / size - 1) <= CLOSED[dtype]:
                return Finding(
                    "", "loss", "reduction", f"{side}'s loss is larger by {size}, {words}."
                )
    for factor in (2.0, 0.5):
        if abs(ratio / factor - 1) <= CLOSED[dtype]:
            return Finding(
                "", "loss", "factor 2",
                f"Flax's loss is {factor:g} times PyTorch's (optax.l2_loss has a 1/2, mse_loss "
                "has not).",
            )  # fmt: skip
    constant = 0.5 * np.log(2 * np.pi)
    for size in {1, *sizes}:
        if abs(abs(a - b) / (size * constant) - 1) <= CLOSED[dtype]:
            return Finding(
                "", "loss", "normalising constant",
                f"The losses differ by {size} x log(2 pi) / 2: one side drops it.",
            )  # fmt: skip
    return Finding(
        "", "loss", "unknown", f"Outputs agree, the loss is {a:.8g} in Flax and {b:.8g} in PyTorch."
    )


def _in_the_gradient(ours: FlaxSide, twin: TorchSide, wrong: list[Comparison]) -> Finding:
    gradient, other = ours.gradient(), ours.from_twin_gradients(twin.gradients())
    frozen = {n for n, p in twin.module.named_parameters() if not p.requires_grad}
    worst = max(wrong, key=lambda c: c.error)
    layer = ours.layer_of(worst.name)
    for c in wrong:
        zero, twin_zero = not np.any(gradient[c.name]), not np.any(other[c.name])
        if zero == twin_zero:
            continue
        layer = ours.layer_of(c.name)
        if twin_zero and any(name.startswith(layer) for name in frozen):
            return Finding(layer, "in", "frozen parameter", f"{c.name} has requires_grad=False in "
                           "PyTorch and is trained in Flax.")  # fmt: skip
        side = "Flax" if zero else "PyTorch"
        word = "stop_gradient" if zero else "detach"
        return Finding(layer, "gradient", "gradient cut", f"{c.name} has no gradient in {side} "
                       f"({word}), but has one on the other side.")  # fmt: skip
    own = twin.module.get_submodule(layer) if layer else twin.module
    row = getattr(own, "padding_idx", None)
    if row is not None and not np.any(other[worst.name][row]):
        apart = np.abs(gradient[worst.name] - other[worst.name])
        apart[row] = 0.0
        if np.max(apart) <= 1e-9 * np.max(np.abs(other[worst.name])):
            return Finding(
                layer, "gradient", "padding_idx",
                f"PyTorch never trains row {row} of {worst.name} (padding_idx={row}), Flax does; "
                "mask the gradient of that row.",
            )  # fmt: skip
    ratio = gradient[worst.name] / np.where(other[worst.name] == 0, np.nan, other[worst.name])
    words = f"of {worst.name} differs by {worst.error:.1e}, though outputs and loss agree"
    if np.nanmax(ratio) - np.nanmin(ratio) <= 1e-6 * np.nanmax(np.abs(ratio)):
        words += f"; Flax's is {np.nanmedian(ratio):.6g} times PyTorch's"
    return Finding(
        layer,
        "gradient",
        "kink or custom gradient",
        f"The gradient {words}. At kinks (abs, clip, max at ties) the conventions differ; else "
        "look for stop_gradient or detach.",
    )
