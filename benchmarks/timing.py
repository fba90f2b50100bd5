"""How the benchmarks take times: the median of repeated calls in one process."""

import statistics
import time
from collections.abc import Callable

__all__ = ["median_seconds"]


def median_seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Returns the median time of a call in seconds; warm it up before."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)
