"""Float64, one torch thread, and the closing table of all rows."""

import json
import os
import pathlib

import jax
import pytest
import torch
from rich.console import Console
from rich.table import Table

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--parity-report", help="write the closing table to this .md or .json file")


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Prints one line per row, quantity and dtype; it sees the reports of all xdist workers."""
    rows = [
        json.loads(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "parity_row" and getattr(report, "when", "call") == "call"
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
    lines = ["| row | quantity | dtype | error | tolerance |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(r)) + " |" for r in rows]
    path.write_text(os.linesep.join(lines) + os.linesep)
