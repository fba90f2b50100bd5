"""What both test suites ask of XLA; for their `conftest.py`."""

import itertools
import os
import pathlib
from collections.abc import Callable

import jax

MAPS = pathlib.Path("/proc/self/maps")
QUICKLY = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false"
)
MOST_MAPS = 20_000  # the kernel allows a process 65,530
_calls = itertools.count(1)


def compile_quickly() -> None:
    """Makes XLA compile faster; to be called before the first computation.

    Most of the time of a test is LLVM's. Its level 0 and XLA's older emitters of loops take half of
    it. They also change bits: no multiply and add is fused, and tan comes out otherwise. Where bits
    count, see `to_the_bit`. What the caller has set goes first.
    """
    os.environ["XLA_FLAGS"] = f"{QUICKLY} {os.environ.get('XLA_FLAGS', '')}"


def users_environment() -> dict[str, str]:
    """Returns the environment of a process that compiles as it would for a user."""
    flags = os.environ.get("XLA_FLAGS", "").replace(QUICKLY, "").strip()
    return {**os.environ, "XLA_FLAGS": flags}


def to_the_bit(function: Callable, *static: int) -> Callable:
    """Returns a function compiled so that its bits are those that users get.

    Args:
      function: What to compile; programs within it become part of its own.
      *static: Places of the arguments that are no arrays.
    """
    options = {
        "xla_backend_optimization_level": 1,  # level 3 takes longer and gives the same
        "xla_llvm_disable_expensive_passes": False,
        "xla_cpu_use_fusion_emitters": True,
    }
    return jax.jit(function, static_argnums=static, compiler_options=options)


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
