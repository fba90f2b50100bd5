"""Who may import whom, read from the source."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Lower layers first; a layer may import itself, what stands in its set, and these two.
MAY_IMPORT = {
    "types": set(),
    "requirements": set(),
    "operations": {"types"},
    "sharding": {"types"},
    "distributions": {"types"},
    "batches": {"types", "distributions"},
    "nn": {"types", "distributions", "batches"},
    "heads": {"types", "distributions", "batches", "nn"},
    "objectives": {"types", "distributions", "batches", "nn", "heads"},
    "supervised": {"types", "distributions", "batches", "nn", "heads"},
    "bayes": {"types", "sharding", "distributions", "batches", "nn", "heads", "objectives"},
    "flows": {"types", "distributions", "batches", "nn", "heads", "objectives"},
    "metrics": {"types", "distributions"},
    "decision": {"types", "distributions"},
    "plot": {"types", "distributions"},
    "training": {"types", "sharding"},
    "optim": {"types"},
    "text": {"types"},
    "datasets": {"types"},
    "interop": {"types", "optim"},
}
BELOW_ALL = ("operations", "requirements")
FAMILIES = ("vae", "sequence", "graphical", "forecasting", "ranking")
for family in FAMILIES:
    MAY_IMPORT[family] = {
        "types", "distributions", "batches", "nn", "heads", "objectives", "bayes", "flows",
    }  # fmt: skip

SOURCES = sorted((ROOT / "jaxprob").rglob("*.py"))
TWINS = sorted((ROOT / "torch_ref").rglob("*.py"))


def imports(path: pathlib.Path, module_level_only: bool = False) -> set[str]:
    """Full names of the modules that a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if module_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers_import_downwards(path):
    layer = path.relative_to(ROOT / "jaxprob").parts[0].removesuffix(".py")
    if layer in ("__init__", "__main__"):
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "jaxprob" or len(parts) == 1:
            continue
        assert parts[1] in {layer, *BELOW_ALL, *MAY_IMPORT[layer]}, (
            f"{path}: {layer} must not import {name}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_jaxprob_imports_torch_only_inside_functions(path):
    roots = {name.split(".")[0] for name in imports(path, module_level_only=True)}
    assert not roots & {"torch", "torch_ref"}


@pytest.mark.parametrize("path", TWINS, ids=lambda p: str(p.relative_to(ROOT)))
def test_torch_ref_never_imports_jax(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"jax", "jaxlib", "flax", "optax", "distrax", "chex", "jaxprob"}


def test_files_stay_short_and_have_no_drawer():
    for path in (*SOURCES, *TWINS):
        assert path.name not in ("utils.py", "helpers.py", "misc.py", "common.py")
        assert len(path.read_text().splitlines()) <= 400, f"{path} wants splitting"


def test_a_wrong_import_would_be_found(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from jaxprob import bayes\nimport torch\n")
    assert imports(bad) == {"jaxprob.bayes", "torch"}
    assert "bayes" not in MAY_IMPORT["training"]
