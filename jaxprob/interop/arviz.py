"""Draws of any posterior as ArviZ's data tree, for its tables and plots."""

import importlib
import inspect
from typing import Any

import jax
import numpy as np

__all__ = ["to_arviz"]


def to_arviz(draws: Any) -> Any:
    """Returns draws as ArviZ's data tree (needs the extra: `pip install 'jaxprob[arviz]'`).

    Args:
      draws: The `Chains` of a sampler, with their chains and diagnostics; or draws with a leading
        axis S from `sample` of any posterior, members `[M, ...]` of an ensemble, or `LazyDraws`,
        as one chain. Independent draws are one chain of no order: R-hat says nothing of them.

    Returns:
      A tree with the group "posterior", each array `[chain, draw, ...]` under its path.

    Raises:
      ImportError: ArviZ is not installed.
      ValueError: The state of a posterior in the place of its draws, or arrays without a common
        leading axis.
    """
    if hasattr(draws, "to_arviz"):
        return draws.to_arviz()
    if all(hasattr(draws, name) for name in ("sample", "params", "keys")):
        draws = jax.lax.map(lambda key: draws.sample(draws.params, key), draws.keys)
    elif isinstance(draws, tuple) and hasattr(draws, "_fields"):
        raise ValueError(
            f"to_arviz: a {type(draws).__name__} is the state of a posterior, not its draws; pass "
            "what its sample(state, key, num_draws) returns."
        )
    leaves = jax.tree_util.tree_leaves_with_path(draws)
    sizes = {np.shape(leaf)[:1] for _, leaf in leaves}
    if len(sizes) != 1 or () in sizes:
        shapes = ", ".join(str(np.shape(leaf)) for _, leaf in leaves[:4])
        raise ValueError(
            f"to_arviz: expected draws whose arrays all lead with the same axis S; got {shapes}."
        )
    posterior = {
        jax.tree_util.keystr(path, simple=True, separator="/") or "x": np.asarray(leaf)[None]
        for path, leaf in leaves
    }
    from_dict = _arviz().from_dict
    if "posterior" in inspect.signature(from_dict).parameters:  # before version 1
        return from_dict(posterior=posterior)
    return from_dict({"posterior": posterior})


def _arviz() -> Any:
    try:
        return importlib.import_module("arviz")
    except ImportError:
        raise ImportError("to_arviz needs ArviZ: pip install 'jaxprob[arviz]'") from None
