"""Law 6: every public name of the mirrored packages has a twin at the same path."""

import ast
import importlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]

MIRRORED = (
    "batches",
    "distributions",
    "nn",
    "heads",
    "objectives",
    "objectives.estimators",
    "bayes",
    "flows",
    "metrics",
    "supervised",
    "vae",
)

# Names without a twin, each with its reason. The list may only shrink.
NO_TWIN = {
    "distributions": {
        "Tails": "a family of the twin gives both tails as a pair of tensors",
        "check": "the test-kit below",
        "check_distribution": "a test-kit for distributions of jaxprob; the twins are its rows",
        "convert": "classes of distrax and TFP as ours; torch knows neither",
        "checked": "wraps jax.jit; eager PyTorch checks without it",
        "gradients": "derivatives by hand; the twins have autograd's, which is the proof of them",
        "unchecked": "torch.distributions has validate_args",
        "validation": "the checks behind the two above",
    },
    "nn": {
        "as_params": "Linen's variables as one trained pytree",
        "as_variables": "the way back",
        "conv_general_dilated": "another way to compute what torch's convolutions are",
    },
    "metrics": {
        "Report": "text made of metrics that have twins",
        "report": "text made of metrics that have twins",
    },
    "bayes": {
        "Chains": "draws and the diagnostics of BlackJAX",
        "HMC": "BlackJAX behind our interface; its proof is the exact posterior",
        "NUTS": "BlackJAX behind our interface; its proof is the exact posterior",
        "VariationalPosterior": "a Protocol: it computes nothing",
        "mcmc": "the three above",
        "parameters": "a torch distribution shows its parameters as attributes",
        "swag_checks": "warnings about a run; the twin keeps all its iterates",
    },
}


def modules(package: str) -> list[str]:
    folder = ROOT / "jaxprob" / pathlib.Path(*package.split("."))
    if folder.is_dir():
        return [package, *(f"{package}.{p.stem}" for p in folder.glob("*.py") if p.stem[0] != "_")]
    return [package]


def public_names(root: str, module: str) -> set[str]:
    path = ROOT / root / pathlib.Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not path.exists():
        return set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


@pytest.mark.parametrize("package", MIRRORED)
def test_packages_have_the_same_names(package):
    excused = set(NO_TWIN.get(package, {}))
    assert public_names("jaxprob", package) - excused == public_names("torch_ref", package)
    twin = importlib.import_module(f"torch_ref.{package}")
    assert all(hasattr(twin, name) for name in public_names("torch_ref", package))


@pytest.mark.parametrize("module", [m for p in MIRRORED for m in modules(p)])
def test_modules_have_a_file_at_the_same_path(module):
    package, _, leaf = module.partition(".")
    path = ROOT / "torch_ref" / pathlib.Path(*module.split("."))
    has_twin = path.is_dir() or path.with_suffix(".py").exists()
    assert has_twin or leaf in NO_TWIN.get(package, {}), f"{module} has no twin"


def test_excuses_are_needed():
    for package, names in NO_TWIN.items():
        for name in names:
            stands_alone = not (ROOT / "torch_ref" / package / f"{name}.py").exists()
            assert stands_alone
            assert name not in public_names("torch_ref", package)
