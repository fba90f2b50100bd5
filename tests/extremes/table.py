"""Evaluates the package on the stored rows and judges each: one program for each part of a law.

A row is right within 32 eps (|value| + spread), the spread being by how much rounding the arguments
may move it (see `compute.py`), and within the smallest normal number. What the dtype can't hold is
infinite; NaN is wrong wherever the value is a number.
"""

import functools
import gzip
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.extremes.families import MAKERS
from tests.extremes.summary import method_of

__all__ = ["LAWS", "Row", "methods_of", "number_of_rows", "rows_of_law", "stored"]

FOLDER = pathlib.Path(__file__).parent / "digits"
ULPS = 32
GRADIENTS = ("log_prob", "cdf", "log_cdf", "log_survival_function")


class Row(NamedTuple):
    """One number that was compared.

    Attributes:
      law: Name of the law.
      method: Name of the method, or "d method / d column".
      dtype: "float32" or "float64".
      extreme: What is extreme about the row.
      columns: The arguments.
      got: Of the package.
      value: The right value; None where any number will do.
      bound: On the distance of the two.
      right: Whether it holds.
    """

    law: str
    method: str
    dtype: str
    extreme: str
    columns: dict[str, str]
    got: float
    value: float | None
    bound: float
    right: bool


@functools.cache
def _stored() -> dict[str, Any]:
    files = (json.loads(gzip.decompress(f.read_bytes())) for f in sorted(FOLDER.glob("*.json.gz")))
    return {content["law"]: content for content in files}


def stored(law: str) -> dict[str, Any]:
    """The digits of a law: dtype -> part -> labels, columns and methods."""
    return _stored()[law]


LAWS = list(MAKERS)


def rows_of_law(law: str, dtype: str) -> Iterator[Row]:
    """Yields every comparison of one law in one dtype."""
    for part, table in stored(law)[dtype].items():
        columns = {name: np.asarray(c, dtype) for name, c in table["columns"].items()}
        computed = _computed(law, part, tuple(table["methods"]), columns)
        for method, (values, spreads) in table["methods"].items():
            for i, label in enumerate(table["labels"]):
                if values[i] is None:
                    continue
                arguments = {name: cells[i] for name, cells in table["columns"].items()}
                got = float(computed[method][i])
                value, bound, right = _judge(got, values[i], spreads[i], dtype)
                if not right and "subnormal" in label:  # XLA takes it for 0
                    twin = _at_zero(table, i)
                    if twin is not None and values[twin] is not None:
                        right = _judge(got, values[twin], spreads[twin], dtype)[2]
                yield Row(law, method, dtype, label, arguments, got, value, bound, right)


def methods_of(law: str) -> set[str]:
    """The methods that a law has digits of, and the gradients."""
    return {method for part in stored(law)["float64"].values() for method in part["methods"]}


def number_of_rows() -> dict[tuple[str, str], int]:
    """(law, method) -> how many rows there are; the gradients of one method are one."""
    counts: dict[tuple[str, str], int] = {}
    for law in LAWS:
        for dtype in ("float32", "float64"):
            for table in stored(law)[dtype].values():
                for method, (values, _) in table["methods"].items():
                    key = law, method_of(method)
                    counts[key] = counts.get(key, 0) + sum(v is not None for v in values)
    return counts


def _at_zero(table: dict, i: int) -> int | None:
    """The row with the same arguments, but 0 for the subnormal value."""
    columns = list(table["columns"].values())
    wanted = ["0.0", *(c[i] for c in columns[1:])]
    found = (j for j in range(len(table["labels"])) if [c[j] for c in columns] == wanted)
    return next(found, None)


def _judge(
    got: float, value: str, spread: str | None, dtype: str
) -> tuple[float | None, float, bool]:
    """Right value, bound, and whether it holds."""
    if value == "any":
        return None, np.inf, not np.isnan(got)
    limits = np.finfo(dtype)
    largest, eps = float(limits.max), float(limits.eps)
    right = float(value)
    if np.isnan(right):
        return right, 0.0, bool(np.isnan(got))
    if np.isnan(got):
        return right, 0.0, False
    if np.isinf(right):
        return right, 0.0, got == right
    bound = ULPS * eps * (abs(right) + (float(spread) if spread else 0.0)) + float(limits.tiny)
    if np.isinf(got):
        return right, bound, got * right > 0 and abs(right) + bound > largest
    if abs(right) - bound > largest:
        return right, bound, False
    return right, bound, abs(got - right) <= bound


def _computed(
    law: str, part: str, methods: tuple[str, ...], columns: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Method -> results `[N]` of the package, under jit."""
    make, names = MAKERS[law], list(columns)
    arrays = [jax.device_put(c) for c in columns.values()]

    if part == "points":
        count = sum(name.startswith("value") for name in names)
        out = _points(law, tuple(m for m in methods if " " not in m), count)(arrays)
        values, gradients = jax.device_get(out)
        for method, slopes in gradients.items():
            values.update({f"d {method} / d {n}": g for n, g in zip(names, slopes, strict=True)})
        return values

    @jax.jit
    def others(arrays):
        if part == "quantiles":
            return {"quantile": make(*arrays[1:]).quantile(arrays[0])}
        if part == "pairs":
            half = len(arrays) // 2
            return {"kl_divergence": make(*arrays[:half]).kl_divergence(make(*arrays[half:]))}
        return {method: getattr(make(*arrays), method)() for method in methods}

    return {k: np.asarray(v) for k, v in jax.device_get(others(arrays)).items()}


def _points(law: str, methods: tuple[str, ...], values: int):
    """The function of a density and of tails, with their gradients."""
    make = MAKERS[law]

    def call(method, *arrays):
        value = arrays[0] if values == 1 else jax.numpy.stack(arrays[:values], axis=-1)
        return getattr(make(*arrays[values:]), method)(value)

    @jax.jit
    def both(arrays):
        results, slopes = {}, {}
        for method in methods:
            fn = functools.partial(call, method)
            if method in GRADIENTS:
                results[method], pull = jax.vjp(fn, *arrays)
                slopes[method] = pull(jax.numpy.ones_like(results[method]))
            else:
                results[method] = fn(*arrays)
        return results, slopes

    return both
