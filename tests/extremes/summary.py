"""The closing table: the share of rows right by family and method; stored where asked."""

import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest

__all__ = ["add_option", "method_of", "print_shares", "record_shares"]

PROPERTY = "extremes"
SHORT = {
    "log_prob": "log_prob", "cdf": "cdf", "survival_function": "surv", "log_cdf": "log_cdf",
    "log_survival_function": "log_surv", "quantile": "quantile", "mean": "mean",
    "variance": "var", "entropy": "entropy", "kl_divergence": "kl",
    "gradient of log_prob": "d log_p", "gradient of cdf": "d cdf",
    "gradient of log_cdf": "d log_cdf", "gradient of log_survival_function": "d log_su",
}  # fmt: skip


def add_option(parser: pytest.Parser) -> None:
    """Adds --extremes-report."""
    parser.addoption("--extremes-report", help="write the shares of rows right to this .json")


def method_of(method: str) -> str:
    """The method of a row; the gradients of one method are one."""
    return f"gradient of {method.split()[1]}" if method.startswith("d ") else method


def record_shares(record_property: Callable[[str, object], None], rows: Iterable[Any]) -> None:
    """Puts the counts of one law in one dtype into the closing table.

    Args:
      record_property: The pytest fixture; it carries the counts out of xdist's workers.
      rows: Of type `table.Row`; nothing of the package is imported here.
    """
    counts: dict[str, list[int]] = {}
    law = dtype = ""
    for row in rows:
        law, dtype = row.law, row.dtype
        right_and_all = counts.setdefault(method_of(row.method), [0, 0])
        right_and_all[0] += row.right
        right_and_all[1] += 1
    record_property(PROPERTY, json.dumps({"law": law, "dtype": dtype, "counts": counts}))


def print_shares(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints one line for each law and dtype; it sees the reports of all xdist workers."""
    lines = [
        json.loads(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and getattr(report, "when", "call") == "call"
    ]
    if not lines:
        return
    lines.sort(key=lambda line: (line["law"], line["dtype"]))
    write = terminalreporter.write_line
    write("extremes: share of rows within 32 eps (1 + condition number) of mpmath's, in %")
    write(" " * 38 + "".join(f"{short:>10s}" for short in SHORT.values()))
    for line in lines:
        cells = "".join(_share(line["counts"].get(method)) for method in SHORT)
        write(f"{line['law']:30s}{line['dtype']:8s}{cells}")
    right, count = (sum(c[i] for line in lines for c in line["counts"].values()) for i in (0, 1))
    write(f"{right} of {count} rows right, {100 * right / count:.2f} %")
    if path := config.getoption("--extremes-report"):
        pathlib.Path(path).write_text(json.dumps(lines, indent=1))


def _share(counts: list[int] | None) -> str:
    if counts is None:
        return f"{'-':>10s}"
    share = 100.0 * counts[0] / counts[1]
    return f"{'100' if counts[0] == counts[1] else f'{share:.1f}':>10s}"
