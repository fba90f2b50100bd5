"""Targets against the support of the model's distribution, before a run begins.

A class K of 0, ..., K - 1, a count of -1 or a beta variable of exactly 1 has no finite log-density,
whatever the learning rate. `training.fit` asks a loss for this check, which names the row. Of most
families the support is known from shapes alone, so that NumPy compares and nothing is compiled;
only where a value is suspect, or where the bounds depend on the params, is the model run.

Twin: `torch_ref/objectives/targets.py`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprob.batches import observed
from jaxprob.distributions import Distribution, constraints
from jaxprob.distributions.constraints import Constraint
from jaxprob.types import Batch, Check, Params

__all__ = ["support_check"]

MOST_SUSPECTS = 32
"""Rows whose log-density is computed to see whether they are allowed after all."""

CHUNK = 1024
"""Rows at a time of a model whose support depends on its params."""

ENDS: dict[Any, Callable[[np.ndarray], np.ndarray]] = {
    constraints.unit_interval.test: lambda y: (y == 0) | (y == 1),
    constraints.non_negative.test: lambda y: y == 0,
    constraints.simplex.test: lambda y: np.any(y == 0, axis=-1),
}
"""Ends of a support, where a density may be 0 or infinite as the params have it."""


class _Suspects(NamedTuple):
    """Values that may have no density.

    Attributes:
      where: Boolean `[N, ...]`.
      entry: Entry of the batch.
      must: What its values must be.
      fix: One sentence.
    """

    where: np.ndarray
    entry: str
    must: str
    fix: str


def support_check(
    predict: Callable[[Params, Batch], Any],
    log_density: Callable[[Params, Batch], Any],
    name: str = "y",
    *,
    support: Constraint | None = None,
    reads: Sequence[str] = (),
) -> Check:
    """Returns the check of a loss (see `types.Loss`).

    Args:
      predict: (params, batch) -> the distribution of `batch[name]`, batch shape `[*leading, B]`.
      log_density: (params, batch) -> the log-density of each row `[*leading, B]`.
      name: Entry of the batch that the distribution is over.
      support: What the values must be; by default the support of the distribution.
      reads: Entries of the batch that the model reads; an "exposure" among them must be positive.
    """
    density, run = jax.jit(log_density), jax.jit(predict)
    positive = [entry for entry in reads if entry == "exposure"]

    def prepare(params: Params, example: Batch) -> Callable[[str, Batch], None] | None:
        found = _abstract_support(predict, params, example)
        if found is None:
            return None
        owner, own = found
        known = support or own

        def check(argument: str, batch: Batch) -> None:
            arrays = {entry: np.asarray(value) for entry, value in batch.items()}
            _require_weights(argument, arrays.get("weight"))
            if any(isinstance(bound, jax.core.Tracer) for bound in known.bounds):
                allowed = _allowed_by_params(run, params, arrays, name)
            else:
                with np.errstate(invalid="ignore"):
                    allowed = np.asarray(known.test(arrays[name], np))
            counted = _counted(arrays, name)
            must = known.name if support else f"{known.name}, the support of {owner}"
            for suspects in _suspects(owner, must, known, arrays, name, allowed, positive):
                _refuse(argument, suspects, arrays, counted, lambda rows: density(params, rows))

        return check

    return prepare


def _abstract_support(
    predict: Callable, params: Params, example: Batch
) -> tuple[str, Constraint] | None:
    """Name and support of the distribution, from shapes; None where a model has none of ours."""
    found = []

    def trace(params: Params, batch: Batch) -> None:
        distribution = predict(params, batch)
        if isinstance(distribution, Distribution):
            inner = getattr(distribution, "distribution", distribution)
            found.append((getattr(inner, "name", distribution.name), distribution.support))

    shapes = {
        name: jax.ShapeDtypeStruct(
            (2, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in example.items()
    }
    try:
        jax.eval_shape(trace, params, shapes)
    except Exception:  # the loss itself will say what is wrong with these data
        return None
    return found[0] if found else None


def _allowed_by_params(
    run: Callable, params: Params, arrays: dict[str, np.ndarray], name: str
) -> np.ndarray:
    """Where values lie in a support whose bounds the model computes, chunk by chunk."""
    rows, ndim, parts = len(arrays[name]), arrays[name].ndim, []
    size = min(rows, CHUNK)
    for start in range(0, rows, size):
        first = min(start, rows - size)  # the last chunk is as large as the others: one program
        part = {name: value[first : first + size] for name, value in arrays.items()}
        support = run(params, part).support
        with np.errstate(invalid="ignore"):
            allowed = np.asarray(support.test(part[name], np))
        leading = tuple(range(allowed.ndim - ndim + support.event_ndims))
        parts.append(allowed.all(axis=leading)[start - first :])
    return np.concatenate(parts)


def _suspects(
    owner: str,
    must: str,
    support: Constraint,
    arrays: dict[str, np.ndarray],
    name: str,
    allowed: np.ndarray,
    positive: Sequence[str],
) -> list[_Suspects]:
    fix = support.fix
    if support.name.startswith("a class"):
        fix = (
            "Classes begin at 0: write y - 1 where yours begin at 1, or give the head more classes."
        )
    elif support.discrete and not support.event_ndims:
        fix = f"{fix} A code for what is missing, such as -1, goes under a mask."
    found = [_Suspects(~allowed, name, must, fix)]
    if (ends := ENDS.get(support.test)) is not None:
        must = f"inside of the support of {owner}, which has no finite density at its end here"
        fix = "Clip the values to the inside, or take a family that allows the end."
        found.append(_Suspects(ends(arrays[name]) & allowed, name, must, fix))
    for entry in positive:
        if entry in arrays:
            fix = "Drop the rows of which nothing was observed, or mask their targets."
            found.append(_Suspects(~(arrays[entry] > 0), entry, "positive (> 0)", fix))
    return found


def _counted(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Where a value adds its own log-density to a loss, of the shape of `arrays[name]`."""
    y = arrays[name]
    counted = np.ones(y.shape, bool)
    mask = observed(arrays, name)
    if mask is not None and mask.shape == y.shape:
        counted &= mask.astype(bool)
    censored = arrays.get("censored")
    if name == "y" and censored is not None and censored.shape == y.shape:
        counted &= censored == 0
    lengths = arrays.get("lengths")
    if lengths is not None and lengths.ndim == 1 and y.ndim > 1:
        valid = np.arange(y.shape[1]) < lengths[:, None]
        counted &= valid.reshape(*valid.shape, *[1] * (y.ndim - 2))
    weight = arrays.get("weight")
    if weight is not None and weight.ndim == 1:
        counted &= (weight != 0).reshape(-1, *[1] * (y.ndim - 1))
    return counted


def _require_weights(argument: str, weight: np.ndarray | None) -> None:
    """Raises for a weight of a row below 0: its loss would be made as large as can be."""
    if weight is None or weight.ndim != 1 or not np.any(weight < 0):
        return
    row = int(np.argmax(weight < 0))
    raise ValueError(
        f'{argument}["weight"] must be at least 0; got {weight[row]} at row {row}. A row counts '
        "weight times: leave one out by a weight of 0."
    )


def _refuse(
    argument: str,
    suspects: _Suspects,
    arrays: dict[str, np.ndarray],
    counted: np.ndarray,
    density: Callable[[Batch], Any],
) -> None:
    """Raises where values that count have no finite density at the params of the start."""
    where = suspects.where
    if not where.any():
        return
    seen = counted
    if where.ndim < seen.ndim:  # events of several elements are judged as one
        seen = seen.all(axis=tuple(range(where.ndim, seen.ndim)))
    elif where.shape != seen.shape:  # of another entry: its row counts where any target does
        seen = seen.any(axis=tuple(range(1, seen.ndim))).reshape(-1, *[1] * (where.ndim - 1))
    bad = where & seen
    rows = np.flatnonzero(bad.any(axis=tuple(range(1, bad.ndim))))
    if not len(rows):
        return
    chosen = rows[:MOST_SUSPECTS]
    filled = np.resize(chosen, MOST_SUSPECTS)  # always as many: one program
    values = np.asarray(density({name: value[filled] for name, value in arrays.items()}))
    finite = np.isfinite(values).all(axis=tuple(range(values.ndim - 1)))[: len(chosen)]
    if finite.all():
        return
    row = int(chosen[np.argmin(finite)])
    index = (row, *(int(i) for i in np.argwhere(bad[row])[0])) if bad.ndim > 1 else (row,)
    value = arrays[suspects.entry][index]
    raise ValueError(
        f'{argument}["{suspects.entry}"] must be {suspects.must}; {len(rows)} of {len(bad)} rows '
        f"are not, the first is row {row} (index {index}): {value}. {suspects.fix}"
    )
