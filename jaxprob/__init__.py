"""Probabilistic deep learning in JAX, proved number by number against PyTorch.

The parts come when they are asked for (`jaxprob.bayes`, `from jaxprob import heads`). Nothing
happens at import time: no configuration flag is set and no device is touched.
"""

import importlib
from typing import Any

PARTS = (
    "batches", "bayes", "datasets", "distributions", "flows", "heads", "interop", "metrics", "nn",
    "objectives", "optim", "plot", "supervised", "training", "types", "vae",
)  # fmt: skip

__version__ = "0.1.0.dev0"
__all__ = ["__version__", "checked", "unchecked"]


def __getattr__(name: str) -> Any:
    """Imports a part, or finds `checked` and `unchecked`."""
    if name in PARTS:
        return importlib.import_module(f"jaxprob.{name}")
    if name in ("checked", "unchecked"):
        from jaxprob.distributions import validation

        return getattr(validation, name)
    raise AttributeError(f"module 'jaxprob' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *PARTS, *(name for name in globals() if name.startswith("__"))})
