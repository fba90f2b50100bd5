"""Every example runs to its end with tiny settings, and writes its picture."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

from tests.support.compilation import users_environment

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BANDS = ("compiling", "90 % interval")
VARIANTS = {
    "bayesian_regression.py": [
        (["--posterior", "layer"], BANDS),
        (["--posterior", "full", "--dataset", "quintic"], BANDS),
        (["--posterior", "ensemble"], BANDS),
        (["--posterior", "diagonal", "--dataset", "diabetes"], BANDS),
    ],
    "bnn_vs_ensemble.py": [
        (["--only", "ensemble", "low rank"], ("ensemble", "low rank")),
        ([], ("NUTS", "SGHMC", "Laplace, full")),
    ],
    "choose_a_distribution.py": [([], ("Poisson -> NegativeBinomial",))],
    "coming_from_tfp.py": [([], ("152 + 189 = 341 parameters", "(no data)"))],
    "count_regression.py": [([], ("what happened",))],
    "flow_density.py": [([], ("spline flow", "kernel density"))],
    "hierarchical_vae.py": [([], ("bottom-up", "ladder", "flow posterior", "KL by layer"))],
    "losses_are_likelihoods.py": [([], ("is the prior w ~ N(0, 1^2)",))],
    "mixture_density.py": [([], ("mixture of 5",))],
    "port_conv_vae.py": [
        ([], ("in conv1: padding", "flatten order", "in up1: padding", "No disagreement was found"))
    ],
    "port_tagger.py": [
        ([], ("sequence lengths", "states behind the ends", "No disagreement was found"))
    ],
    "port_transformer.py": [
        ([], ("epsilon", "attention scale", "gelu form", "No disagreement", "further steps"))
    ],
    "streaming_posterior.py": [([], ("stream and all at once differ by", "log-evidence"))],
    "train_in_both.py": [(["--dtype", "float64"], ("largest relative difference", "e-1"))],
    "bring_your_own_torch.py": [([], ("in norm: epsilon", "No disagreement was found"))],
    "uncertainty_on_digits.py": [([], ("ensemble", "MC dropout"))],
    "vae.py": [
        ([], ("held-out digits: ELBO", "log p(x) -", "latents active")),
        (["--conv", "--latent-dim", "6"], ("of 6 latents active",)),
    ],
    "vae_discrete.py": [
        (["--only", "NVIL", "VIMCO"], ("NVIL", "VIMCO", "best log-likelihood")),
    ],
    "vae_missing.py": [
        (["--proposals", "3"], ("log p(what is seen) -", "can be trusted", "hidden pixels, 3")),
    ],
    "vq_vae.py": [([], ("by gradient", "bits under the prior"))],
}
"""Arguments of each run, and what it must print."""

AS_A_SCRIPT = "losses_are_likelihoods.py"
"""The example that is started just as a user does."""

AS_USERS = {"train_in_both.py", "bnn_vs_ensemble.py", "vae.py"}
"""Compiled as users do: bits are compared, or they run longer (NUTS, convolutions)."""

FOLDERS = {
    "bring_your_own_torch.py": "mended.html",
    "port_tagger.py": "mended.html",
    "port_transformer.py": "mended.html",
}
"""Examples that write a folder, with a file in it; the others write a picture."""


IMPORTED = ["distrax", "flax", "jax", "matplotlib.pyplot", "optax", "torch"]
"""What examples import, once for all of them: each is a fork of a process that has done so."""


def run(path: pathlib.Path, arguments: list[str], out: pathlib.Path) -> str:
    """Runs an example in a process of its own; returns what it printed."""
    if path.name == AS_A_SCRIPT:
        command = [sys.executable, str(path), *arguments]
        with out.open("w") as file:
            subprocess.run(command, cwd=ROOT, env=users_environment(), stdout=file, check=True)
        return out.read_text()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(IMPORTED)
    environment = users_environment() if path.name in AS_USERS else dict(os.environ)
    example = processes.Process(target=become, args=(path, arguments, out, environment))
    example.start()
    example.join(600)
    if example.is_alive():
        example.kill()
        example.join()
    printed = out.read_text() if out.exists() else "it printed nothing"
    assert example.exitcode == 0, printed
    return printed


def become(
    path: pathlib.Path, arguments: list[str], out: pathlib.Path, environment: dict[str, str]
) -> None:
    """Turns this process into the example."""
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name="__main__")


ALL_HELP = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path, "--help"]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        assert not end.code, path
"""
"""One process for all: each would import both frameworks anew."""


@pytest.mark.slow
def test_help():
    arguments = [sys.executable, "-c", ALL_HELP, *map(str, EXAMPLES)]
    out = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    helps = out.split("usage: ")[1:]
    assert [text.split()[0] for text in helps] == [path.name for path in EXAMPLES]
    for text in helps:
        assert "--steps" in text
        assert "--seed" in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_short(path):
    assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize(
    ("name", "arguments", "printed"),
    [
        pytest.param(name, *variant, marks=[pytest.mark.slow(30)])
        for name in VARIANTS
        for variant in VARIANTS[name]
    ],
)
def test_runs_and_writes(name, arguments, printed, tmp_path):
    target = tmp_path / "new" / ("folder" if name in FOLDERS else "picture.png")
    arguments = [*arguments, "--steps", "30", "--out", str(target)]
    out = run(ROOT / "examples" / name, arguments, tmp_path / "printed")
    for text in printed:
        assert text in out
    written = target / FOLDERS[name] if name in FOLDERS else target
    assert written.stat().st_size > 3_000


def test_every_example_has_variants():
    assert {path.name for path in EXAMPLES} == set(VARIANTS)
