"""Float64, no silent rank promotion, and the type hook on every function of the package."""

import json

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

from tests.extremes import summary
from tests.support.compilation import compile_for_tests
from tests.support.session import (  # noqa: F401  (pytest finds them here)
    _forget_programs,
    pytest_collection_finish,
    pytest_collection_modifyitems,
)

# Must stand before the first import of jaxprob.
install_import_hook("jaxprob", "beartype.beartype")

jax.config.update("jax_enable_x64", True)
compile_for_tests()


@pytest.fixture(autouse=True)
def _no_silent_rank_promotion():
    """For these tests alone: parity_tests run in the same process and write plain networks."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def as_users_see_it(monkeypatch):
    """Without the type hook of the tests, which is faster than our checks and says less."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pytest_addoption(parser):
    """Adds --extremes-report."""
    summary.add_option(parser)


def pytest_terminal_summary(terminalreporter, config):
    """Prints the errors against mpmath by class and method; it sees the reports of all workers."""
    summary.print_shares(terminalreporter, config)
    rows = [
        json.loads(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "oracle" and getattr(report, "when", "call") == "call"
    ]
    if not rows:
        return
    columns = sorted({key for *_, worst in rows for key in worst if not key.startswith("slope")})
    terminalreporter.write_line("worst errors against mpmath, in units of rounding")
    terminalreporter.write_line(
        " " * 36 + "".join(f"{column[:9]:>10s}" for column in [*columns, "gradient"])
    )
    for name, dtype, worst in sorted(rows):
        gradient = max(error for key, error in worst.items() if key.startswith("slope"))
        errors = [*(worst.get(column) for column in columns), gradient]
        cells = "".join("         -" if e is None else f"{e:10.2g}" for e in errors)
        terminalreporter.write_line(f"{name:28s}{dtype:8s}{cells}")
