"""Every snippet of the documentation runs, page by page, as a reader would run it."""

import pathlib
import re
import subprocess
import sys

import pytest

from tests.support.compilation import users_environment

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "```python" in p.read_text())


def snippets(page: pathlib.Path) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))


def test_pages_are_found_and_listed():
    """A page that the menu does not name would never be read."""
    assert len(PAGES) >= 8
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in DOCS.rglob("*.md"):
        assert f": {page.relative_to(DOCS).as_posix()}" in menu


@pytest.mark.slow(20)
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(DOCS).as_posix())
def test_snippets_run(page):
    result = subprocess.run(
        [sys.executable, "-c", snippets(page)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=users_environment(),
    )
    assert result.returncode == 0, result.stderr
    printed = {masked(line) for line in result.stdout.splitlines()}
    for block in re.findall(r"```text\n(.*?)```", page.read_text(), re.S):
        for line in block.splitlines():
            assert ROUNDING in line or masked(line) in printed, line


ROUNDING = "e-1"
"""Errors of rounding, and which tensor has the largest of them, differ between machines."""


def masked(line: str) -> str:
    """A line without its numbers and what frames it."""
    return re.sub(r"[\d.]+(e[+-]\d+)?", "#", line).strip()


@pytest.mark.parametrize("path", sorted(DOCS.glob("reference/*.md")), ids=lambda p: p.stem)
def test_the_reference_names_modules_that_exist(path):
    named = re.findall(r"^::: (\S+)$", path.read_text(), re.M)
    assert named
    for module in named:
        file = ROOT / pathlib.Path(*module.split(".")).with_suffix(".py")
        assert file.exists()


def test_every_public_module_is_in_the_reference():
    text = "".join(p.read_text() for p in DOCS.glob("reference/*.md"))
    missing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "jaxprob").rglob("*.py")
        if path.stem[0] != "_"
        and "__all__" in path.read_text()
        and f"::: {'.'.join(path.relative_to(ROOT).with_suffix('').parts)}\n" not in text + "\n"
    ]
    assert not [p for p in missing if p.split("/")[1].removesuffix(".py") not in UNLISTED]


UNLISTED = {"requirements", "sharding"}
"""What the package uses within itself."""
