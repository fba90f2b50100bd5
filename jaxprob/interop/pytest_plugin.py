"""A pytest plugin: the fixture `parity`, and a closing table of all that was compared.

Turn it on with `pytest_plugins = ["jaxprob.interop.pytest_plugin"]` in the top conftest.py, or with
`-p jaxprob.interop.pytest_plugin`:

    def test_my_port(parity):
        parity(flax_model, torch_module, batch, value=1e-12, grad=1e-11)

`--parity-report FILE` writes the table as .md, .json or .html. It works under pytest-xdist.
"""

import html
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["add_row", "parity"]

PROPERTY = "parity_row"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --parity-report."""
    parser.addoption("--parity-report", help="write the closing table to this .md, .json or .html")


def add_row(
    record_property: Callable[[str, object], None],
    row: str,
    quantity: str,
    dtype: str,
    error: float,
    tolerance: float,
) -> None:
    """Puts one comparison into the closing table.

    Args:
      record_property: The pytest fixture; it carries the row out of xdist's workers.
      row: Name of the model or function.
      quantity: What was compared.
      dtype: "float64" or "float32".
      error: Worst error.
      tolerance: Its bound.
    """
    line = {"row": row, "quantity": quantity, "dtype": dtype, "error": error}
    record_property(PROPERTY, json.dumps({**line, "tolerance": tolerance}))


@pytest.fixture
def parity(request: pytest.FixtureRequest, record_property: Callable) -> Callable:
    """`check_parity` that requires its bounds and adds its rows to the closing table.

    It takes the arguments of `interop.check_parity`, and `value=`, `grad=`, `trajectory=`: largest
    errors (default: 1e-12, 1e-11 and 1e-10 in float64; 5e-6, 2e-5 and 1e-4 in float32).
    """
    from jaxprob import interop

    defaults = {
        "float64": {"value": 1e-12, "grad": 1e-11, "trajectory": 1e-10},
        "float32": {"value": 5e-6, "grad": 2e-5, "trajectory": 1e-4},
    }

    def check(*args: Any, **options: Any) -> Any:
        given = {q: options.pop(q) for q in ("value", "grad", "trajectory") if q in options}
        report = interop.check_parity(*args, **options)
        bounds = {**defaults[report.dtype], **given}
        bounds = {q: bound for q, bound in bounds.items() if report.worst(q) is not None}
        for quantity, bound in bounds.items():
            worst = report.worst(quantity)
            assert worst is not None
            add_row(
                record_property,
                request.node.name,
                f"{quantity}: {worst.name}",
                report.dtype,
                worst.error,
                bound,
            )
        return report.require(**bounds)

    return check


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints one line per row, quantity and dtype; it sees the reports of all xdist workers."""
    from rich.console import Console
    from rich.table import Table

    rows = [
        json.loads(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and getattr(report, "when", "call") == "call"
    ]
    if not rows:
        return
    rows.sort(key=lambda r: (r["row"], r["quantity"], r["dtype"]))
    table = Table("row", "quantity", "dtype", "worst error", "tolerance", title="parity")
    for r in rows:
        table.add_row(*_cells(r))
    console = Console(width=110, file=terminalreporter._tw._file)
    console.print(table)
    console.print(
        f"{len(rows)} comparisons of JAX and PyTorch, each within its tolerance or failed."
    )
    if path := config.getoption("--parity-report"):
        _write(pathlib.Path(path), rows)


def _cells(r: dict) -> list[str]:
    return [r["row"], r["quantity"], r["dtype"], f"{r['error']:.1e}", f"{r['tolerance']:.0e}"]


def _write(path: pathlib.Path, rows: list[dict]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
        return
    header = ["row", "quantity", "dtype", "error", "tolerance"]
    if path.suffix == ".html":
        cells = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in _cells(r)) for r in rows
        )
        names = "".join(f"<th>{name}" for name in header)
        head = "<!doctype html><meta charset='utf-8'><title>parity</title>"
        path.write_text(f"{head}<table><tr>{names}{cells}</table>")
        return
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(r)) + " |" for r in rows]
    path.write_text(os.linesep.join(lines) + os.linesep)
