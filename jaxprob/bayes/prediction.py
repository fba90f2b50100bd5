"""Prediction with posterior draws: the model under `vmap` over the leading axis S.

Twin: `torch_ref/bayes/prediction.py`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprob.batches import Inputs, inputs_of
from jaxprob.bayes.summary import summary
from jaxprob.distributions import Predictive
from jaxprob.distributions.constraints import finite
from jaxprob.distributions.validation import check_values
from jaxprob.nn.apply import call, hashable
from jaxprob.requirements import require_count
from jaxprob.sharding import DATA, check_shares, member_sharding, place, require_mesh
from jaxprob.types import Array, ArrayLike, Batch, Key, Params

__all__ = ["LazyDraws", "predict"]


class LazyDraws(NamedTuple):
    """Draws that are made when they are needed, one after the other, and then forgotten.

    Attributes:
      sample: `sample(params, key) -> one draw`, a pytree without the axis S. Keep the function: a
        new one is compiled again.
      params: What it draws from, e.g. the params of a posterior.
      keys: Keys `[S]`, one for each draw.
    """

    sample: Callable[[Any, Key], Params]
    params: Any
    keys: Array

    def __repr__(self) -> str:
        return summary("LazyDraws", draws=len(self.keys), params=self.params)


def predict(
    model: nn.Module,
    draws: Params | LazyDraws,
    x: ArrayLike | tuple[ArrayLike, ...] | Batch,
    *,
    chunk_size: int | None = None,
    draws_at_once: int | None = None,
    mesh: Mesh | None = None,
) -> Predictive:
    """Returns p(y | x, data) as the mixture of the predictions of all draws.

    Args:
      model: Linen module, `apply({"params": w}, x)` -> distribution with batch shape `[B]`. One
        that asks whether it is trained is told that it is not. With chunks, the prediction of a row
        must not depend on the other rows.
      draws: Params pytree with leading axis S on every leaf: posterior draws, or the members of an
        ensemble. A dict with the entry "params" is taken as the whole variables dict (params and
        other collections, each leaf with its axis S). Or `LazyDraws`.
      x: Inputs `[B, ...]`, finite; for a model with several inputs a tuple of them. Or a batch:
        its "x", and beside it what the model `takes`, such as "lengths".
      chunk_size: Rows at a time: hidden layers are never larger than for so many rows.
      draws_at_once: Draws at a time; None for all of them, or for one of `LazyDraws`.
      mesh: Devices with an axis "member", over which the draws are shared out, and/or "data", over
        which the rows are. The predictions stay where they were made.

    Returns:
      Mixture over draws, batch shape `[B]`; compiled once for each shape.

    Raises:
      ValueError: Draws without a common leading axis, inputs that are not finite, chunks below 1,
        or a mesh that does not fit.
    """
    require_count("predict", chunk_size=chunk_size, draws_at_once=draws_at_once)
    lazy = isinstance(draws, LazyDraws)
    leading = draws.keys if isinstance(draws, LazyDraws) else draws
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(leading)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise ValueError(
            f"predict: every leaf of draws needs the same leading axis S of draws; got leading "
            f"sizes {sorted(sizes)}. For a single set of params add the axis: "
            "jax.tree.map(lambda w: w[None], params)."
        )
    inputs = _checked_inputs(model, x)
    num_rows = inputs.arrays[0].shape[0]
    (num_draws,) = next(iter(sizes))
    if mesh is not None:
        if chunk_size is not None or draws_at_once is not None or lazy:
            raise ValueError(
                "predict: give either a mesh or chunks; got both. On a mesh every device computes "
                "its own share of draws and rows at once."
            )
        draws, inputs = _share_out(mesh, draws, inputs, num_draws)
    sample = draws.sample if isinstance(draws, LazyDraws) else None
    if isinstance(draws, LazyDraws):
        draws_at_once = 1 if draws_at_once is None else draws_at_once
        draws = (draws.params, draws.keys)
    rows = None if chunk_size is None or chunk_size >= num_rows else chunk_size
    at_once = None if draws_at_once is None or draws_at_once >= num_draws else draws_at_once
    model = hashable(model)
    try:
        hash(model)
    except TypeError:  # an attribute is traced, such as a prior's scale: compiled by who traces it
        return _mixture(model, sample, rows, at_once, draws, inputs)
    return _predict(model, sample, rows, at_once, draws, inputs)


def _checked_inputs(model: nn.Module, x: Any) -> Inputs:
    inputs = inputs_of(model, x)
    for value in inputs.arrays:
        check_values("predict", "x", value, finite)
    inputs = inputs.on_device()
    if len({array.shape[:1] for array in inputs.arrays}) != 1:
        raise ValueError(
            "predict: the inputs must share their leading axis B; got shapes "
            f"{', '.join(str(array.shape) for array in inputs.arrays)}."
        )
    return inputs


def _mixture(
    model: nn.Module,
    sample: Callable | None,
    rows: int | None,
    at_once: int | None,
    draws: Any,
    inputs: Inputs,
) -> Predictive:
    shared, each = (None, draws) if sample is None else draws

    def of_draw(draw: Any) -> Any:
        weights = draw if sample is None else sample(shared, draw)
        variables = {"params": weights}
        if isinstance(weights, Mapping) and "params" in weights:
            variables = dict(weights)
        return _in_chunks(lambda part: call(model, variables, part)[0], inputs, rows)

    if at_once is None:
        return Predictive(jax.vmap(of_draw)(each))
    return Predictive(jax.lax.map(of_draw, each, batch_size=at_once if at_once > 1 else None))


_predict = jax.jit(_mixture, static_argnums=(0, 1, 2, 3))


def _in_chunks(apply: Callable[[Inputs], Any], inputs: Inputs, rows: int | None) -> Any:
    """Predicts so many rows at a time, and puts the distributions together again."""
    if rows is None:
        return apply(inputs)
    full, rest = divmod(inputs.arrays[0].shape[0], rows)
    cut = jax.tree.map(lambda x: x[: full * rows].reshape(full, rows, *x.shape[1:]), inputs)
    parts = jax.lax.map(apply, cut)
    axes = _batch_axes(apply, inputs, rows)

    def join(leaf: Array, axis: int | None) -> Array:
        if axis is None:
            return leaf[0]
        leaf = jnp.moveaxis(leaf, 0, axis)
        return leaf.reshape(*leaf.shape[:axis], full * rows, *leaf.shape[axis + 2 :])

    treedef = jax.tree.structure(parts)
    joined = [join(leaf, axis) for leaf, axis in zip(jax.tree.leaves(parts), axes, strict=True)]
    if rest:
        last = jax.tree.leaves(apply(jax.tree.map(lambda x: x[full * rows :], inputs)))
        joined = [
            leaf if axis is None else jnp.concatenate([leaf, end], axis)
            for leaf, end, axis in zip(joined, last, axes, strict=True)
        ]
    return jax.tree.unflatten(treedef, joined)


def _batch_axes(apply: Callable, inputs: Inputs, rows: int) -> list[int | None]:
    """The axis of each leaf that grows with the rows: parameters of a head may have none."""

    def shapes(n: int) -> list[Any]:
        of = jax.tree.map(lambda x: jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype), inputs)
        return jax.tree.leaves(jax.eval_shape(apply, of))

    small, large = shapes(rows), shapes(rows + 1)
    axes = []
    for a, b in zip(small, large, strict=True):
        grown = [i for i, (n, m) in enumerate(zip(a.shape, b.shape, strict=True)) if n != m]
        axes.append(grown[0] if grown else None)
    return axes


def _share_out(mesh: Mesh, draws: Params, inputs: Inputs, num_draws: int) -> tuple[Params, Inputs]:
    """Draws over the axis "member", rows over the axis "data"."""
    mesh = require_mesh("predict", mesh)
    names = ("the number of draws", "the number of rows of x")
    sizes = {"members": num_draws, "batch_size": len(inputs.arrays[0])}
    check_shares(mesh, **sizes, where="predict", names=names)
    rows = PartitionSpec(*(DATA,) if DATA in mesh.axis_names else ())
    inputs = place(inputs, NamedSharding(mesh, rows))
    return place(draws, member_sharding(mesh, ensemble=True)), inputs
