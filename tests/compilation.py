"""What both test suites ask of XLA; for their `conftest.py`."""

import itertools
import os
import pathlib

import jax

MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 20_000  # the kernel allows a process 65,530
_calls = itertools.count(1)


def compile_quickly() -> None:
    """Makes XLA compile faster; to be called before the first computation.

    Most of the time of a test is LLVM's. Its level 1 takes a fifth less and still fuses multiply
    and add, which level 0 does not: that changes bits. XLA's older emitters of loops take another
    fifth less. What the caller has set goes first.
    """
    quick = "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}"


def forget_programs() -> None:
    """Frees compiled programs where they are too many; to be called after each test.

    Each has pages of memory of its own. A process that has compiled tens of thousands gets no more
    of them from the kernel, and the compiler then ends it with a segmentation fault.
    """
    if next(_calls) % 16 or not MAPS.exists():
        return
    with MAPS.open("rb") as maps:
        count = sum(1 for _ in maps)
    if count > MOST_MAPS:
        jax.clear_caches()
