"""All that may stand between two layers, tried in turn on the values at hand."""

from jaxprob.interop.parity.combined import combined
from jaxprob.interop.parity.fitted import fitted
from jaxprob.interop.parity.gap import Gap
from jaxprob.interop.parity.orders import rearranged
from jaxprob.interop.parity.reductions import neighbours, shifted, steps
from jaxprob.interop.parity.scores import handwritten_attention

__all__ = ["explained"]


NORMS = ("length 1", "mean 0", "sum 1", "layer norm", "rms norm", "standard scores")
INVERSE = {"square": "a square root", "exp": "a logarithm"}
"""Function that one side has more -> what the other side may have more instead."""


def explained(gap: Gap) -> tuple[str, str] | None:
    """Returns (suspect, explanation) of the first difference that closes the gap, or None."""
    if not gap.target.size or not gap.twin_target.size:
        return None
    for explain in (steps, neighbours, handwritten_attention, _ordered, shifted, combined, _direct):
        found = explain(gap)
        if found:
            return found
    return None


def _ordered(gap: Gap) -> tuple[str, str] | None:
    return rearranged(gap.target, gap.twin_target)


def _direct(gap: Gap) -> tuple[str, str] | None:
    """One side's values as a function of the other's: it applies one more."""
    if gap.target.shape != gap.twin_target.shape:
        return None
    for own, other, side, without in (
        (gap.target, gap.twin_target, "Flax", "PyTorch"),
        (gap.twin_target, gap.target, "PyTorch", "Flax"),
    ):
        name = fitted(other, own, gap.closed)
        if name and name != "no function":
            words = f"{side} has {name} of what {without} has: it applies one more"
            inverse = INVERSE.get(name)
            words += f", or {without} has {inverse} that {side} has not." if inverse else "."
            return ("norm" if name.startswith(NORMS) else "activation"), words
    return None
