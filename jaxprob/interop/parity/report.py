"""What `check_parity` found: a table, sentences, files, and a gate."""

import dataclasses
import html
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Comparison", "Finding", "LayerError", "ParityError", "ParityReport"]

INSIDE = {"float64": 1e-9, "float32": 3e-5}
"""Activations that differ by more than rounding."""

QUANTITIES = ("value", "grad", "trajectory")


class ParityError(AssertionError):
    """Two models that were to agree do not."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One tensor on both sides.

    Attributes:
      quantity: "value" (outputs, log-probs, loss), "grad", or "trajectory" (after the steps).
      name: Name of the tensor.
      error: max |a - b| / max |b|; infinite where shapes differ or a number is not finite.
      shape: Its shape in Flax.
      note: What else is to be said of it.
    """

    quantity: str
    name: str
    error: float
    shape: tuple[int, ...]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class LayerError:
    """One layer that both sides have, in the order of execution.

    Attributes:
      layer: Its path in the PyTorch module.
      kind: Class of the layer there.
      input_error: Error of what goes in.
      output_error: Error of what comes out.
    """

    layer: str
    kind: str
    input_error: float
    output_error: float


@dataclasses.dataclass(frozen=True)
class Finding:
    """Where the two part, and why as far as it could be shown.

    Attributes:
      layer: Path of the first layer concerned in the PyTorch module ("" for the whole model).
      place: "in" the layer, "after" it, or "loss", "gradient", "optimizer".
      suspect: Short name of the cause, e.g. "epsilon"; "unknown" if no correction closed the gap.
      explanation: What each side does, with the sizes that were measured, and the fix.
    """

    layer: str
    place: str
    suspect: str
    explanation: str

    def __str__(self) -> str:
        where = (
            f"{self.place} {self.layer}".strip() if self.place in ("in", "after") else self.place
        )
        return f"{where}: {self.suspect}. {self.explanation}"


@dataclasses.dataclass(frozen=True)
class ParityReport:
    """The result of `check_parity`.

    Attributes:
      dtype: Precision of the comparison.
      comparisons: All tensors.
      layers: All layers that both sides have.
      findings: First disagreement and its suspects; empty if none was found.
      losses: (JAX's, PyTorch's) loss before each optimisation step.
      versions: Library -> version.
    """

    dtype: str
    comparisons: tuple[Comparison, ...]
    layers: tuple[LayerError, ...] = ()
    findings: tuple[Finding, ...] = ()
    losses: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def worst(self, quantity: str) -> Comparison | None:
        """Returns the tensor with the largest error of "value", "grad" or "trajectory"."""
        of_it = [c for c in self.comparisons if c.quantity == quantity]
        return max(of_it, key=lambda c: c.error) if of_it else None

    @property
    def value(self) -> float:
        """Largest error of outputs and loss."""
        return self._error("value")

    @property
    def grad(self) -> float:
        """Largest error of a gradient."""
        return self._error("grad")

    @property
    def trajectory(self) -> float:
        """Largest error of losses along the steps and of parameters after them; NaN if none."""
        return self._error("trajectory")

    def _error(self, quantity: str) -> float:
        worst = self.worst(quantity)
        return math.nan if worst is None else worst.error

    def require(
        self,
        value: float | None = None,
        grad: float | None = None,
        trajectory: float | None = None,
    ) -> "ParityReport":
        """Raises unless every error is at most its bound.

        Args:
          value: Bound on outputs and loss, e.g. 1e-12 in float64.
          grad: Bound on gradients, e.g. 1e-11.
          trajectory: Bound on the training run, e.g. 1e-10.

        Returns:
          The report itself.

        Raises:
          ParityError: With the worst tensor of each broken bound, the layer and the suspect.
          ValueError: A bound on something that was not compared, or no bound at all.
        """
        bounds = {"value": value, "grad": grad, "trajectory": trajectory}
        bounds = {name: bound for name, bound in bounds.items() if bound is not None}
        if not bounds:
            raise ValueError("require: give at least one of value=, grad=, trajectory=.")
        broken, missing = [], []
        for quantity, bound in bounds.items():
            worst = self.worst(quantity)
            if worst is None:
                missing.append(quantity)
            elif not worst.error <= bound:
                note = f" ({worst.note})" if worst.note else ""
                broken.append(
                    f"{quantity} of {worst.name} differs by {worst.error:.1e}, more than "
                    f"{bound:.0e}{note}"
                )
        # where outputs have other shapes, nothing behind them could be compared
        if missing and not broken:
            raise ValueError(
                f"require: no {missing[0]} was compared. Pass optimizer= and steps= to "
                "check_parity for a trajectory; gradients need trainable parameters."
            )
        if broken:
            found = [str(finding) for finding in self.findings] or ["no layer was singled out"]
            raise ParityError("\n  ".join([*broken, *found]))
        return self

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=100, color_system=None)
        console.print(self._table())
        if self.layers:
            console.print(self._layer_table())
        for finding in self.findings:
            console.print(f"-> {finding}", highlight=False, markup=False)
        if not self.findings:
            console.print(self._verdict(), highlight=False, markup=False)
        return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]

    def _verdict(self) -> str:
        """The sentence of a report without findings."""
        apart = [layer for layer in self.layers if not layer.output_error <= INSIDE[self.dtype]]
        if not apart:
            return "No disagreement was found."
        worst = max(apart, key=lambda layer: layer.output_error)
        return (
            "Outputs, loss and gradients agree. Inside, "
            f"{worst.layer} gives other values on the two sides ({worst.output_error:.1e}) without "
            "any effect on them: what is padding or masked, or calls in another order."
        )

    def _table(self) -> Table:
        table = Table("quantity", "tensors", "worst error", "worst tensor", title=self._title())
        for quantity in QUANTITIES:
            worst = self.worst(quantity)
            if worst is not None:
                number = sum(c.quantity == quantity for c in self.comparisons)
                table.add_row(quantity, str(number), f"{worst.error:.1e}", worst.name)
        return table

    def _layer_table(self) -> Table:
        table = Table("layer", "kind", "input", "output", title="activations")
        for layer in self.layers:
            table.add_row(
                layer.layer, layer.kind, f"{layer.input_error:.1e}", f"{layer.output_error:.1e}"
            )
        return table

    def _title(self) -> str:
        return f"JAX against PyTorch, {self.dtype}"

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as plain Python."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Returns everything as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def to_markdown(self) -> str:
        """Returns the tables and sentences as Markdown."""
        lines = [f"# {self._title()}", ""]
        lines += _markdown(
            ("quantity", "tensor", "shape", "error", "note"),
            [(c.quantity, c.name, c.shape, f"{c.error:.1e}", c.note) for c in self.comparisons],
        )
        if self.layers:
            lines += ["", "## Activations", ""]
            lines += _markdown(
                ("layer", "kind", "input error", "output error"),
                [
                    (x.layer, x.kind, f"{x.input_error:.1e}", f"{x.output_error:.1e}")
                    for x in self.layers
                ],
            )
        lines += ["", "## Findings", ""]
        lines += [f"- {finding}" for finding in self.findings] or [self._verdict()]
        lines += ["", ", ".join(f"{name} {v}" for name, v in self.versions.items()), ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """Returns one self-contained page, with the error of every layer as a picture."""
        rows = "".join(
            f"<tr><td>{c.quantity}<td>{html.escape(c.name)}<td>{c.shape}<td>{c.error:.1e}"
            f"<td>{html.escape(c.note)}</tr>"
            for c in self.comparisons
        )
        found = "".join(f"<li>{html.escape(str(f))}</li>" for f in self.findings)
        found = f"<ul>{found}</ul>" if found else f"<p>{html.escape(self._verdict())}</p>"
        versions = html.escape(", ".join(f"{n} {v}" for n, v in self.versions.items()))
        return (
            "<!doctype html><meta charset='utf-8'><title>parity</title>"
            "<style>body{font:15px system-ui;margin:2em;max-width:60em;color:#222}"
            "td,th{padding:2px 12px 2px 0;text-align:left}svg text{font:12px system-ui}</style>"
            f"<h1>{html.escape(self._title())}</h1><h2>Findings</h2>{found}"
            f"<h2>Layers, in the order of execution</h2>{_picture(self.layers)}"
            f"<h2>Training loss</h2>{_curves(self.losses)}"
            "<h2>Tensors</h2><table><tr><th>quantity<th>tensor<th>shape<th>error<th>note</tr>"
            f"{rows}</table><p>{versions}</p>"
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the report as .html, .md or .json, by the ending of the path.

        Raises:
          ValueError: Another ending.
        """
        path = pathlib.Path(path)
        writers = {".html": self.to_html, ".md": self.to_markdown, ".json": self.to_json}
        if path.suffix not in writers:
            raise ValueError(f"save: {path.name} must end in one of {', '.join(writers)}.")
        path.write_text(writers[path.suffix]())


def _markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


FLOOR, CEILING = -17.0, 1.0
"""Range of log10(error) in the picture."""


def _picture(layers: Sequence[LayerError]) -> str:
    """One bar a layer: grey is the error that came in, red what the layer made of it."""
    if not layers:
        return "<p>No layer has a counterpart by name on both sides.</p>"
    width, left, height = 420, 260, 20
    parts = []
    for i, layer in enumerate(layers):
        y = i * height
        entered, left_with = _length(layer.input_error, width), _length(layer.output_error, width)
        name = html.escape(f"{layer.layer} ({layer.kind})")
        parts.append(
            f"<text x='{left - 8}' y='{y + 14}' text-anchor='end'>{name}</text>"
            f"<rect x='{left}' y='{y + 3}' width='{left_with:.0f}' height='7' fill='#c0392b'/>"
            f"<rect x='{left}' y='{y + 11}' width='{entered:.0f}' height='5' fill='#999'/>"
            f"<text x='{left + width + 8}' y='{y + 14}'>{layer.output_error:.0e}</text>"
        )
    total = len(layers) * height
    return (
        f"<svg width='{left + width + 90}' height='{total}' role='img'>{''.join(parts)}</svg>"
        "<p>Length: log of the relative error, from 1e-17 to 10. Grey: input, red: output.</p>"
    )


def _length(error: float, width: float) -> float:
    if not error > 0:
        return 0.0
    exponent = CEILING if math.isinf(error) else math.log10(error)
    return width * (min(max(exponent, FLOOR), CEILING) - FLOOR) / (CEILING - FLOOR)


def _curves(losses: tuple[tuple[float, ...], tuple[float, ...]]) -> str:
    ours, theirs = losses
    if len(ours) < 2:
        return "<p>No optimisation steps were asked for.</p>"
    finite = [v for v in (*ours, *theirs) if math.isfinite(v)] or [0.0]
    low, span = min(finite), (max(finite) - min(finite)) or 1.0

    def points(curve: Sequence[float]) -> str:
        step = 640 / (len(curve) - 1)
        return " ".join(
            f"{i * step:.1f},{180 - 170 * (v - low) / span:.1f}"
            for i, v in enumerate(curve)
            if math.isfinite(v)
        )

    return (
        "<svg width='660' height='200' role='img'>"
        f"<polyline points='{points(ours)}' fill='none' stroke='#2c7fb8' stroke-width='4'/>"
        f"<polyline points='{points(theirs)}' fill='none' stroke='#c0392b' stroke-width='1.5'/>"
        "</svg><p>Thick blue: JAX; thin red: PyTorch.</p>"
    )
