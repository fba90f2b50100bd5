"""What a state prints: its sizes and its numbers, never its tensors.

Twin of `jaxprob/bayes/summary.py`.
"""

from typing import Any

from torch import Tensor

__all__ = ["summary"]


def summary(name: str, **parts: Any) -> str:
    """Returns "Name(part=..., ...)"; parts that are None are left out."""
    shown = [f"{part}={_shown(value)}" for part, value in parts.items() if value is not None]
    return f"{name}({', '.join(shown)})"


def _shown(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    leaves = _leaves(value)
    dtypes = sorted({str(leaf.dtype).removeprefix("torch.") for leaf in leaves})
    if len(leaves) == 1:
        (leaf,) = leaves
        return f"{leaf.item():.6g}" if leaf.dim() == 0 else f"{dtypes[0]}{list(leaf.shape)}"
    numbers = sum(leaf.numel() for leaf in leaves)
    return f"<{numbers} numbers in {len(leaves)} arrays{', ' if dtypes else ''}{'|'.join(dtypes)}>"


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [leaf for part in parts for leaf in _leaves(part)]
