"""`import jaxprob` is instant, and its parts come when they are asked for."""

import pathlib
import subprocess
import sys

import pytest

import jaxprob

ROOT = pathlib.Path(jaxprob.__file__).parent


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, jaxprob; assert not {'jax', 'flax', 'torch'} & set(sys.modules), 'at import';"
        "jaxprob.batches.takes; assert 'jax' in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_dir_lists_what_is_there():
    listed = dir(jaxprob)
    there = {
        p.stem for p in ROOT.iterdir() if p.stem[0] != "_" and (p.is_dir() or p.suffix == ".py")
    }
    assert there - set(jaxprob.PARTS) == {"operations", "requirements", "sharding"}
    assert set(jaxprob.PARTS) <= set(listed)
    assert {"checked", "unchecked", "__version__"} <= set(listed)
    for name in jaxprob.PARTS:
        assert getattr(jaxprob, name).__name__ == f"jaxprob.{name}"


def test_what_is_not_there_is_named():
    with pytest.raises(AttributeError, match="no attribute 'bayse'"):
        jaxprob.bayse  # noqa: B018
