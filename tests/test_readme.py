"""The README's code runs as printed and prints what the README says."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support.compilation import users_environment

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def block(marker: str, language: str) -> str:
    match = re.search(rf"<!-- {marker} -->\n```{language}\n(.*?)```", README, re.S)
    assert match, f"README.md has no block {marker!r}"
    return match.group(1)


def run(code: str) -> str:
    """Runs code in a process of its own, as a reader would: float32, no test settings."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=users_environment(),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow(20)
def test_snippets_print_what_the_readme_shows():
    printed = run(block("snippet", "python") + block("ensemble snippet", "python"))
    expected = block("output", "text")
    # The words to the letter; the numbers up to what another processor rounds differently.
    assert NUMBER.sub("#", printed.strip()) == NUMBER.sub("#", expected.strip())
    got, want = ([float(n) for n in NUMBER.findall(text)] for text in (printed, expected))
    np.testing.assert_allclose(got, want, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("marker", ["run command", "test command"])
def test_commands_do_their_own_setup(marker):
    command = block(marker, "bash").strip()
    assert len(command.splitlines()) == 1
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
    for path in re.findall(r"\S+\.(?:py|txt)", command):
        assert (ROOT / path).exists()


def test_packages_named_in_the_readme_exist():
    for name in re.findall(r"`jaxprob\.(\w+)", README):
        path = ROOT / "jaxprob" / name
        assert path.is_dir() or path.with_suffix(".py").exists() or name in ("checked",)


def test_pictures_exist():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / path).stat().st_size > 10_000
