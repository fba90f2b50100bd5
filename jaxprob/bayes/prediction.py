"""Prediction with posterior draws: the model under `vmap` over the leading axis S.

Twin: `torch_ref/bayes/prediction.py`.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import Predictive
from jaxprob.distributions.constraints import finite
from jaxprob.distributions.validation import check_values
from jaxprob.types import Array, ArrayLike, Params

__all__ = ["predict"]


def predict(model: nn.Module, draws: Params, x: ArrayLike) -> Predictive:
    """Returns p(y | x, data) as the mixture of the predictions of all draws.

    Args:
      model: Linen module, `apply({"params": w}, x)` -> distribution with batch shape `[B]`.
      draws: Params pytree with leading axis S on every leaf: posterior draws, or the members of an
        ensemble.
      x: Inputs `[B, ...]`, finite.

    Returns:
      Mixture over draws, batch shape `[B]`; compiled once for each shape.

    Raises:
      ValueError: Draws without a common leading axis, or inputs that are not finite.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(draws)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise ValueError(
            f"predict: every leaf of draws needs the same leading axis S of draws; got leading "
            f"sizes {sorted(sizes)}. For a single set of params add the axis: "
            "jax.tree.map(lambda w: w[None], params)."
        )
    check_values("predict", "x", x, finite)
    return _predict(_hashable(model), draws, jnp.asarray(x))


@functools.partial(jax.jit, static_argnums=0)
def _predict(model: nn.Module, draws: Params, x: Array) -> Predictive:
    predictions = jax.vmap(lambda w: model.apply(_variables(w), x))(draws)
    return Predictive(predictions)


def _variables(draw: Params) -> dict[str, Any]:
    """What `apply` takes: a draw of a model with state is its variables already."""
    return draw if isinstance(draw, dict) and "params" in draw else {"params": draw}


def _hashable(value: Any) -> Any:
    """The same module with lists and arrays as tuples: neither can be part of a jit key."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, (np.ndarray, jax.Array)) and not isinstance(value, jax.core.Tracer):
        return _hashable(value.tolist())
    if not isinstance(value, nn.Module):
        return value
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    frozen = {name: _hashable(v) for name, v in fields.items() if name not in ("parent", "name")}
    changed = {name: v for name, v in frozen.items() if v is not fields[name]}
    return value.clone(**changed) if changed else value
