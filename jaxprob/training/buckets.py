"""Sequences of unlike length in batches of a few widths: `fit` compiles one program for each.

A batch is as wide as its bucket, and the buckets are chosen so that all batches of a pass together
hold at most a quarter more steps than there are:

    minimise K  such that  sum_k n_k w_k <= (1 + max_padding) sum_i l_i

over the widths w_1 < ... < w_K (lengths that occur), by dynamic programming. A bucket whose rows do
not fill its last batch hands the rest of them, drawn anew in each epoch, on to the next wider one;
only the widest has a smaller batch.

Twin: `torch_ref/training/buckets.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxprob.requirements import require_count, require_in
from jaxprob.training.data import permutation
from jaxprob.types import Key

__all__ = ["LengthBuckets"]

LARGEST_NUMBER = 16
"""More widths than this are not tried with full batches."""


class LengthBuckets:
    """Batches of sequences of about the same length, for `fit` and for prediction.

    Iterating gives one epoch of dicts of NumPy arrays: sequences cut to the width of the batch,
    `[B, W, ...]`, all other entries by row, and "lengths" `[B]` int32. The order of rows and of
    batches comes from the key and the epoch, which `fit` sets; every row is in one batch of an
    epoch.

    Args:
      data: Dict of N rows. An entry is an array `[N, ...]`, or a list of N arrays `[T_n, ...]`,
        which are padded with zeros.
      batch_size: Rows of a batch B.
      key: Key of the order.
      lengths: Lengths `[N]`, each at least 1; None for data["lengths"], or for those of the lists.
      sequences: Entries that have a time axis after the first and are cut; None for lists and for
        arrays whose second axis is as long as that of "x".
      max_padding: Steps beyond the ends of sequences, over steps within them, at most.

    Attributes:
      widths: Widths of the buckets, ascending.
      padding: Steps beyond the ends of sequences over steps within them, in one epoch.

    Raises:
      ValueError: Data without lengths, lengths that do not fit the arrays, or no rows.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        batch_size: int,
        key: Key,
        *,
        lengths: Sequence[int] | np.ndarray | None = None,
        sequences: Sequence[str] | None = None,
        max_padding: float = 0.25,
    ):
        require_count("LengthBuckets", batch_size=batch_size)
        require_in("LengthBuckets", "[0, inf)", "0.25 is a quarter more.", max_padding=max_padding)
        self._size, self._key, self._epoch = batch_size, key, 0
        self.lengths = _lengths(data, lengths)
        self._cut = _sequences(data, sequences, self.lengths)
        self._data = {
            name: _padded(value, self.lengths) if name in self._cut else np.asarray(value)
            for name, value in data.items()
            if name != "lengths"
        }
        wrong = {name: len(a) for name, a in self._data.items() if len(a) != len(self.lengths)}
        if wrong:
            raise ValueError(
                f"LengthBuckets: every entry needs a row for each of the {len(self.lengths)} "
                f"lengths; got {wrong}."
            )
        self.widths, self._full = choose_widths(self.lengths, batch_size, max_padding)
        steps = sum(len(rows) * width for rows, width in self._plan(None))
        self.padding = steps / int(self.lengths.sum()) - 1

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is read next; `fit` calls it before each pass."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return len(self._plan(None))

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Gives the batches of the epoch that was set."""
        for rows, width in self._plan(self._epoch):
            yield self._batch(rows, width)

    def in_order(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Gives (rows, batch) from short to long, for prediction: `results[rows] = f(batch)`."""
        for rows, width in self._plan(None):
            yield rows, self._batch(rows, width)

    def _batch(self, rows: np.ndarray, width: int) -> dict[str, np.ndarray]:
        batch = {
            name: array[rows, :width] if name in self._cut else array[rows]
            for name, array in self._data.items()
        }
        return {**batch, "lengths": self.lengths[rows]}

    def _plan(self, epoch: int | None) -> list[tuple[np.ndarray, int]]:
        """Rows and width of each batch; in the order of the lengths without an epoch."""
        orders = None if epoch is None else self._orders(epoch)
        rest, batches = np.zeros(0, int), []
        for k, (rows, width) in enumerate(zip(self._rows(), self.widths, strict=True)):
            rows = rows if orders is None else rows[orders[k]]
            rows = np.concatenate([rest, rows])
            last = not self._full or k + 1 == len(self.widths)
            whole = len(rows) if last else len(rows) // self._size * self._size
            rest = rows[whole:]
            batches += [(rows[i : i + self._size], width) for i in range(0, whole, self._size)]
        if epoch is None:
            return batches
        return [batches[i] for i in self._permutation(epoch, len(self.widths), len(batches))]

    def _rows(self) -> list[np.ndarray]:
        """The rows of each bucket, from short to long."""
        order = np.argsort(self.lengths, kind="stable")
        return np.split(order, np.searchsorted(self.lengths[order], self.widths[:-1], "right"))

    def _orders(self, epoch: int) -> list[np.ndarray]:
        sizes = [len(rows) for rows in self._rows()]
        return [self._permutation(epoch, k, size) for k, size in enumerate(sizes)]

    def _permutation(self, epoch: int, number: int, size: int) -> np.ndarray:
        key = jax.random.fold_in(jax.random.fold_in(self._key, epoch), number)
        return np.asarray(permutation(key, size))


def choose_widths(lengths: np.ndarray, batch_size: int, most: float) -> tuple[list[int], bool]:
    """Returns the fewest widths that pad by no more than `most`, and if their batches are full.

    Where full batches pad too much, as with few rows, every bucket keeps a smaller batch.

    Args:
      lengths: Lengths `[N]`.
      batch_size: Rows of a batch.
      most: Steps beyond the ends over steps within, at most.
    """
    values, counts = np.unique(lengths, return_counts=True)
    allowed = (1 + most) * int(lengths.sum())
    for full in (True, False):
        for number, widths in enumerate(_best_partitions(values, counts), 1):
            if full and number > LARGEST_NUMBER:
                break
            if _steps(values, counts, widths, batch_size if full else 1) <= allowed:
                return widths, full
    raise AssertionError("a width for each length pads nothing")


def _best_partitions(values: np.ndarray, counts: np.ndarray) -> Iterator[list[int]]:
    """For one width, two widths, ...: those of the fewest steps, by dynamic programming."""
    total = np.concatenate([[0], np.cumsum(counts)])
    size = len(values)
    # cost[j]: fewest steps for the first j lengths; from[j]: where its last bucket begins.
    cost = np.concatenate([[0.0], total[1:] * values])
    begins = [np.zeros(size + 1, int)]
    for _ in range(size):
        yield _traced_back(values, begins)
        steps = cost[:, None] + (total[None, 1:] - total[:, None]) * values[None, :]
        steps[np.arange(size + 1)[:, None] > np.arange(size)[None, :]] = math.inf
        begins.append(np.concatenate([[0], np.argmin(steps, axis=0)]))
        cost = np.concatenate([[0.0], np.min(steps, axis=0)])


def _traced_back(values: np.ndarray, begins: list[np.ndarray]) -> list[int]:
    widths, end = [], len(values)
    for begin in reversed(begins):
        if end:
            widths.append(int(values[end - 1]))
            end = int(begin[end])
    return widths[::-1]


def _steps(values: np.ndarray, counts: np.ndarray, widths: list[int], size: int) -> int:
    """Steps of one epoch, where rows that fill no batch go on to the next width."""
    rest = steps = 0
    for k, rows in enumerate(np.split(counts, np.searchsorted(values, widths[:-1], "right"))):
        rest += int(rows.sum())
        whole = rest if k + 1 == len(widths) else rest // size * size
        steps, rest = steps + whole * widths[k], rest - whole
    return steps


def _lengths(data: Mapping[str, Any], lengths: Any) -> np.ndarray:
    given = data.get("lengths") if lengths is None else lengths
    if given is None:
        ragged = [v for v in data.values() if isinstance(v, (list, tuple)) and np.ndim(v[0]) > 0]
        if not ragged:
            raise ValueError(
                'LengthBuckets: the data have no "lengths"; give them as an entry, as lengths=, or '
                "give the sequences as lists of arrays."
            )
        given = [len(row) for row in ragged[0]]
    lengths = np.asarray(given)
    if lengths.ndim != 1 or not lengths.size or lengths.dtype.kind not in "iu":
        raise ValueError(
            f"LengthBuckets: lengths must be integers [N], N at least 1; got "
            f"{lengths.dtype}{list(lengths.shape)}."
        )
    if lengths.min() < 1:
        row = int(np.argmin(lengths))
        raise ValueError(
            f"LengthBuckets: lengths must be at least 1; got {lengths[row]} in row {row}. Leave "
            "empty sequences out."
        )
    return lengths.astype(np.int32)


def _sequences(data: Mapping[str, Any], names: Any, lengths: np.ndarray) -> frozenset[str]:
    if names is None:
        lists = {n for n, v in data.items() if isinstance(v, (list, tuple)) and np.ndim(v[0]) > 0}
        steps = None if "x" in lists or np.ndim(data.get("x")) < 2 else np.shape(data["x"])[1]
        names = lists | {
            name
            for name, value in data.items()
            if name not in lists and steps and np.ndim(value) > 1 and np.shape(value)[1] == steps
        }
    for name in names:
        if name not in data:
            raise ValueError(f'LengthBuckets: sequences names "{name}"; got {sorted(data)}.')
        value = data[name]
        ragged = isinstance(value, (list, tuple))
        sizes = np.asarray([len(row) for row in value]) if ragged else np.shape(value)[1]
        if ragged and len(sizes) == len(lengths) and (sizes != lengths).any():
            row = int(np.argmax(sizes != lengths))
            raise ValueError(
                f'LengthBuckets: "{name}" has {sizes[row]} steps in row {row}, whose length is '
                f"{lengths[row]}."
            )
        if not ragged and lengths.max() > sizes:
            row = int(np.argmax(lengths))
            raise ValueError(
                f'LengthBuckets: "{name}" has {sizes} steps; row {row} has length {lengths[row]}.'
            )
    if not names:
        raise ValueError(
            "LengthBuckets: no entry has a time axis. Name those that have one: sequences=('x',)."
        )
    return frozenset(names)


def _padded(value: Any, lengths: np.ndarray) -> np.ndarray:
    """One array `[N, T, ...]`; what is a list is filled up with zeros."""
    if not isinstance(value, (list, tuple)):
        return np.asarray(value)
    rows = [np.asarray(row) for row in value]
    padded = np.zeros((len(rows), int(lengths.max()), *rows[0].shape[1:]), np.result_type(*rows))
    for array, row in zip(padded, rows, strict=True):
        array[: len(row)] = row
    return padded
