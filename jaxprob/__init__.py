"""Probabilistic deep learning in JAX, proved number by number against PyTorch.

Import the part that you need (`from jaxprob import bayes, heads, training`); nothing happens at
import time: no configuration flag is set and no device is touched.
"""

from typing import Any

__version__ = "0.1.0.dev0"
__all__ = ["__version__", "checked", "unchecked"]


def __getattr__(name: str) -> Any:
    """Resolves `jaxprob.checked` lazily, so that `import jaxprob` alone stays instant."""
    if name in ("checked", "unchecked"):
        from jaxprob.distributions import validation

        return getattr(validation, name)
    raise AttributeError(f"module 'jaxprob' has no attribute {name!r}")
