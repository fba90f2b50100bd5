"""What a posterior prints: its sizes and its numbers, never its arrays.

Twin: none; the twin's states are printed as torch prints tensors.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["summary"]


def summary(name: str, **parts: Any) -> str:
    """Returns "Name(part=..., ...)": a number as it is, a pytree of arrays by its size.

    Args:
      name: Name of the state.
      **parts: By name; None is left out.
    """
    shown = {part: _shown(value) for part, value in parts.items() if value is not None}
    return f"{name}({', '.join(f'{part}={text}' for part, text in shown.items())})"


def _shown(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    leaves = jax.tree.leaves(value)
    known = not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    if known and len(leaves) == 1 and jnp.ndim(leaves[0]) == 0:
        return f"{leaves[0]:.6g}"
    dtypes = sorted({str(jnp.result_type(leaf)) for leaf in leaves})
    if len(leaves) == 1:
        return f"{dtypes[0]}{list(jnp.shape(leaves[0]))}"
    numbers = sum(jnp.size(leaf) for leaf in leaves)
    return f"<{numbers} numbers in {len(leaves)} arrays{', ' if dtypes else ''}{'|'.join(dtypes)}>"
