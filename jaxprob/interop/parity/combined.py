"""Sums, products and gates of two or three arrays that both sides have."""

from collections.abc import Iterator

import numpy as np

from jaxprob.interop.parity.fitted import fitted
from jaxprob.interop.parity.functions import FUNCTIONS, recognise
from jaxprob.interop.parity.gap import Gap, Labelled, told_apart
from jaxprob.interop.parity.outputs import relative_error

__all__ = ["combined"]

SCREENED = 48
"""Formulas are tried on so many values first."""

GATES = ("no function", "exp", "sigmoid", "tanh", "softplus", "no function + 1")

SUSPECTS = {
    "gate": "gate",
    "function": "activation",
    "kept": "order of the parts",
    "scale": "scale of a sum",
}


def combined(gap: Gap) -> tuple[str, str] | None:
    """Returns (suspect, explanation) if both sides are formulas of what they have in common."""
    parts = gap.parts()
    if not parts or gap.target.shape != gap.twin_target.shape or gap.target.size < 8:
        return None
    ours = list(_formulas(gap, parts, gap.target))
    if not ours:
        return None
    theirs = list(_formulas(gap, parts, gap.twin_target))
    for a in ours:
        for b in theirs:
            found = told_apart(a, b)
            if found:
                return _suspect(found[0], a, b), found[1]
    if ours and theirs:
        a, b = ours[0], theirs[0]
        if a != b:
            return "another formula", f"Flax has {_said(a)}; PyTorch has {_said(b)}."
    return None


def _said(formula: dict[str, str]) -> str:
    return ", ".join(f"{aspect}: {value}" for aspect, value in formula.items())


def _suspect(differ: list[str], ours: dict[str, str], theirs: dict[str, str]) -> str:
    if "function of the gate" in differ and len(differ) == 1:
        plain = {side["function of the gate"] for side in (ours, theirs)}
        if plain == {"exp", "exp of the half"}:
            return "variance against standard deviation"
        if len({name.split(" + ")[0] for name in plain}) == 1:
            return "offset of a gate"
        return "activation of a gate"
    if {"gate", "values"} <= set(differ) and ours["gate"] == theirs["values"]:
        return "chunk order"
    if differ == ["function"]:
        return "activation"
    if "gate" in differ:
        return "which part is the gate"
    return "terms of a sum"


def _formulas(gap: Gap, parts: list[Labelled], target: np.ndarray) -> Iterator[dict[str, str]]:
    """Formulas that make the target, as aspects."""
    pick = np.linspace(0, target.size - 1, min(SCREENED, target.size)).astype(int)
    few = [part.array.ravel()[pick] for part in parts]
    goal = target.ravel()[pick]

    def confirmed(i: int, wanted: np.ndarray, exact: bool = False) -> str | None:
        name = (recognise if exact else fitted)(parts[i].array, wanted, gap.closed)
        return name

    def screened(x: np.ndarray, wanted: np.ndarray) -> bool:
        return recognise(x, wanted, gap.closed) is not None

    indices = range(len(parts))
    with np.errstate(all="ignore"):
        for i in indices:
            for j in indices:
                if i < j:
                    total = few[i] + few[j]
                    if screened(total, goal):
                        name = recognise(parts[i].array + parts[j].array, target, gap.closed)
                        if name:
                            yield {
                                "sum of": f"{parts[i].label} and {parts[j].label}",
                                "function": name,
                            }
                if i != j:
                    quotient = goal / few[i]
                    if np.all(np.isfinite(quotient)) and screened(few[j], quotient):
                        name = confirmed(j, target / parts[i].array)
                        if name:
                            yield {
                                "values": parts[i].label,
                                "gate": parts[j].label,
                                "function of the gate": name,
                            }
                    if screened(few[j], goal - few[i]):
                        name = confirmed(j, target - parts[i].array)
                        if name:
                            yield {"values": parts[i].label, "plus": f"{name} of {parts[j].label}"}
        for k in indices:
            rest = goal - few[k]
            for i in indices:
                if i == k:
                    continue
                quotient = rest / few[i]
                if not np.all(np.isfinite(quotient)):
                    continue
                for j in indices:
                    if j in (i, k):
                        continue
                    name = _gate(few[j], quotient, gap.closed)
                    if name:
                        made = parts[k].array + parts[i].array * _apply(name, parts[j].array)
                        if gap.close(made, target):
                            yield {
                                "kept": parts[k].label,
                                "values": parts[i].label,
                                "gate": parts[j].label,
                                "function of the gate": name,
                            }


def _apply(name: str, x: np.ndarray) -> np.ndarray:
    plain, _, shift = name.partition(" + ")
    return FUNCTIONS[plain](x) + (float(shift) if shift else 0.0)


def _gate(x: np.ndarray, wanted: np.ndarray, closed: float) -> str | None:
    for name in (*GATES, "exp of the half"):
        if relative_error(_apply(name, x), wanted) <= 100 * closed:
            return name
    return None
