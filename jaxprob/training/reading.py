"""Batches of a stream, prepared by a thread while the step before still runs."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxprob.types import Batch

__all__ = ["read_ahead"]

READ_AHEAD = 2
"""Batches that wait on the device."""

SECONDS_TO_WAIT = 0.1
"""How long a batch is waited for before somebody asks whether to stop."""

SECONDS_TO_JOIN = 1.0
"""How long the reader is waited for at the end."""


def read_ahead(
    batches: Iterator[Any], prepare: Callable[[int, Any], Batch], look: Callable[[], None]
) -> Iterator[Batch]:
    """Yields prepared batches, read by a thread that ends with this generator.

    A source that does not answer keeps the thread, which then ends after its next batch.

    Args:
      batches: Where they come from.
      prepare: (number, batch) -> the batch on the device.
      look: Called while there is nothing to yield; raises to stop.
    """
    waiting: queue.Queue = queue.Queue(READ_AHEAD)
    stopped = threading.Event()
    x64 = jax.config.jax_enable_x64  # a thread does not inherit it from a `with` block

    def put(item: tuple[Any, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def read() -> None:
        try:
            with jax.enable_x64(x64):
                for index, batch in enumerate(batches):
                    put((prepare(index, batch), None))
                    if stopped.is_set():
                        return
            put((None, None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it can be seen
            put((None, error))

    thread = threading.Thread(target=read, name="jaxprob-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                batch, error = waiting.get(timeout=SECONDS_TO_WAIT)
            except queue.Empty:
                look()
                continue
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        stopped.set()
        thread.join(timeout=SECONDS_TO_JOIN)
