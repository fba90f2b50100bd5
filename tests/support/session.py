"""Hooks that both `conftest.py` hand to pytest: the longest first, and less to look through."""

import gc

import pytest

from tests.support.compilation import forget_programs
from tests.support.longer import LONGER

__all__ = ["_forget_programs", "pytest_collection_finish", "pytest_collection_modifyitems"]


def seconds(item: pytest.Item) -> float:
    """Returns how long a test says that it takes: `heavy(seconds)`, or `slow(seconds)`."""
    return max((s for name in ("heavy", "slow") for m in item.iter_markers(name) for s in m.args),
               default=0)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest tests first, so that no worker waits for another at the end."""
    for item in items:
        if item.get_closest_marker("heavy") or item.nodeid in LONGER:
            item.add_marker("slow")
    items.sort(key=seconds, reverse=True)


def pytest_collection_finish() -> None:
    """Lets the garbage collector pass over what the imports have made, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def _forget_programs():
    yield
    forget_programs()
