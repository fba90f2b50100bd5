"""Every example runs to its end with tiny settings, and writes its picture."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
VARIANTS = {
    "bayesian_regression.py": [
        ["--posterior", "layer"],
        ["--posterior", "full", "--dataset", "quintic"],
        ["--posterior", "ensemble"],
        ["--posterior", "diagonal", "--dataset", "diabetes"],
    ]
}


def run(path: pathlib.Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_help(path):
    out = run(path, "--help")
    for option in ("--steps", "--seed"):
        assert option in out
    assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, args) for name in VARIANTS for args in VARIANTS[name]]
)
def test_runs_and_draws(name, arguments, tmp_path):
    picture = tmp_path / "new" / "picture.png"
    out = run(ROOT / "examples" / name, *arguments, "--steps", "30", "--out", str(picture))
    assert "compiling" in out
    assert "90 % interval" in out
    assert picture.stat().st_size > 10_000


def test_every_example_has_variants():
    assert {path.name for path in EXAMPLES} == set(VARIANTS)
