"""Running statistics and gradients that differ though the outputs agree."""

import numpy as np

from jaxprob.interop.parity.flax_side import FlaxSide
from jaxprob.interop.parity.report import Comparison, Finding
from jaxprob.interop.parity.torch_side import TorchSide

__all__ = ["in_the_gradient", "in_the_statistics"]


def in_the_statistics(ours: FlaxSide, twin: TorchSide, worst: Comparison) -> Finding:
    """Explains running statistics that part."""
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


def in_the_gradient(ours: FlaxSide, twin: TorchSide, wrong: list[Comparison]) -> Finding:
    """Explains gradients that part."""
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
