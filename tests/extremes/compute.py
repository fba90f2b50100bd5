"""Computes the digits of the table: python -m tests.extremes.compute [LAW ...] [DTYPE ...]

For each row and method the right value and its spread

    sum_j |c_j| |d value / d c_j|

over the columns c of the row, by how much rounding the arguments alone may move it, over that
rounding. A derivative is taken by steps of 1e-20, with 80 digits and more. A gradient has a spread
of its own, from the second derivatives. What may be any number (a gradient where the density has
none, or an infinite one) is "any".
"""

import gzip
import json
import pathlib
import sys
import time

import mpmath as mp
import numpy as np

from tests.extremes.derivatives import jet, precision, spread, steps
from tests.extremes.laws_of_counts import all_laws
from tests.extremes.rows import rows_of
from tests.extremes.truths import point, quantile

FOLDER = pathlib.Path(__file__).parent / "digits"
DTYPES = {"float32": np.float32, "float64": np.float64}
# Rows name values of float32 next to 0; these are their counterparts.
IN_DOUBLE = {1e-40: 1e-310, 1.2e-38: 2.3e-308}


def rounded(rows, dtype, values=1):
    """The rows that the dtype can hold, as (label, *floats)."""
    kept = {}
    for label, *numbers in rows:
        if dtype is np.float64:
            numbers = [IN_DOUBLE.get(x, x) for x in numbers]
        with np.errstate(over="ignore", under="ignore"):
            floats = [float(dtype(x)) for x in numbers]
        tiny = np.finfo(dtype).tiny
        held = [np.isfinite(f) or not np.isfinite(x) for f, x in zip(floats, numbers, strict=True)]
        lost = [x != 0 and f == 0 for f, x in zip(floats, numbers, strict=True)]
        small = [0 < abs(f) < tiny for f in floats[values:]]
        if all(held) and not any(lost) and not any(small):
            kept.setdefault(tuple(floats), label)
    return [(label, *floats) for floats, label in kept.items()]


def compute(name, dtype_name):
    """Returns {part: {"labels", "columns", "methods"}} of one law in one dtype."""
    law, dtype, rows = all_laws()[name], DTYPES[dtype_name], rows_of(name)
    digits = 10 if dtype_name == "float32" else 18
    n = law.values
    eps = float(np.finfo(dtype).eps)

    def text(value):
        return value if isinstance(value, str) else mp.nstr(value, digits)

    def table(rows, columns, row):
        rows = rounded(rows, dtype, n)
        methods = {}
        for i, (label, *floats) in enumerate(rows):
            numbers = [mp.mpf(x) for x in floats]
            with mp.workdps(precision(law, numbers)):
                try:
                    results = row(numbers)
                except Exception as error:
                    raise ArithmeticError(f"{name}: {label} {floats}") from error
            for method, (value, size) in results.items():
                cells = methods.setdefault(method, [[None] * len(rows), [None] * len(rows)])
                cells[0][i] = text(value)
                cells[1][i] = None if size is None else mp.nstr(size, 2)
        cells = [[repr(float(dtype(r[1 + j]))) if dtype is np.float64 else str(dtype(r[1 + j]))
                  for r in rows] for j in range(len(columns))]  # fmt: skip
        return {"labels": [r[0] for r in rows], "columns": dict(zip(columns, cells, strict=True)),
                "methods": methods}  # fmt: skip

    parameters, kinds = law.columns[n:], law.kinds[n:]
    fixed = lambda c, kinds: steps(law._replace(values=0), c, kinds)  # noqa: E731

    def facts(numbers):
        out = {}
        for fact, fn in law.facts.items():
            ((value, gradient, _),) = jet(
                lambda *c, fn=fn: [fn(*c)], numbers, fixed(numbers, kinds)
            )
            size = None if gradient is None else spread(numbers, gradient)
            if fact == "entropy" and not law.discrete and size is not None:
                size = max(size, mp.mpf(1))  # as the logarithm of a density
            out[fact] = ("nan" if mp.isnan(value) else value, size)
        return out

    def kl(numbers):
        sizes = fixed(numbers, kinds + kinds)
        ((value, gradient, _),) = jet(lambda *c: [law.kl(*c)], numbers, sizes)
        return {"kl_divergence": (value, None if gradient is None else spread(numbers, gradient))}

    out = {"points": table(rows.points, law.columns, lambda c: point(law, c))}
    if rows.quantiles and law.tail is not None:
        out["quantiles"] = table(
            rows.quantiles, ("q", *parameters), lambda c: {"quantile": quantile(law, c, eps)}
        )
    if rows.parameters and law.facts:
        out["parameters"] = table(rows.parameters, parameters, facts)
    if rows.pairs and law.kl:
        others = tuple(f"other {p}" for p in parameters)
        out["pairs"] = table(rows.pairs, parameters + others, kl)
    return out


def file_of(name):
    return FOLDER / (name.replace(", ", "_").replace("(", "_").replace(")", "") + ".json.gz")


def write(name, dtypes):
    """Computes one law and writes it, keeping what its file has of other dtypes."""
    file = file_of(name)
    before = json.loads(gzip.decompress(file.read_bytes())) if file.exists() else {}
    content = before | {"law": name} | {dtype: compute(name, dtype) for dtype in dtypes}
    data = json.dumps(content, separators=(",", ":")).encode()
    file.write_bytes(gzip.compress(data, 9, mtime=0))


def main(arguments):
    """Computes the laws and dtypes that are named, or all."""
    dtypes = [a for a in arguments if a in DTYPES] or list(DTYPES)
    names = [a for a in arguments if a not in DTYPES] or list(all_laws())
    for name in names:
        start = time.time()
        write(name, dtypes)
        print(f"{name}: {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
