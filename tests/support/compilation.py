"""What both test suites ask of XLA; for their `conftest.py`."""

import contextlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

import jax
from jax import monitoring
from jax.experimental.compilation_cache import compilation_cache

from tests.support import programs
from tests.support.moves import move_without_programs

MAPS = pathlib.Path("/proc/self/maps")
QUICKLY = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
AS_USERS = "JAXPROB_COMPILE_AS_USERS"
"""Environment variable: with "1" the tests compile as users do; see the marker `heavy`."""

MOST_MAPS = 20_000  # the kernel allows a process 65,530
_calls = itertools.count(1)


def compile_for_tests() -> None:
    """Makes XLA compile faster and keep its programs; to be called before the first computation.

    Most of the time of a test is LLVM's. Its level 0 and XLA's older emitters of loops take half of
    it, one module in place of 32 another quarter. They also change bits: no multiply and add is
    fused, and tan comes out otherwise. Where bits count, see `to_the_bit`. What the caller has set
    goes first.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if os.environ.get(AS_USERS) != "1" and QUICKLY not in flags:  # two conftests may ask for it
        os.environ["XLA_FLAGS"] = f"{QUICKLY} {flags}".strip()
    move_without_programs()
    for name, value in programs.settings().items():
        os.environ[name] = value  # for processes that a test starts
        before = getattr(jax.config, name.lower())  # JAX has read the environment already
        jax.config.update(name.lower(), value if before is None else type(before)(value))


def users_environment() -> dict[str, str]:
    """Returns the environment of a process that compiles as it would for a user."""
    flags = os.environ.get("XLA_FLAGS", "").replace(QUICKLY, "").strip()
    return {**os.environ, "XLA_FLAGS": flags}


def first_time_environment() -> dict[str, str]:
    """Returns the environment of a process that compiles all that it runs."""
    return {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}


@contextlib.contextmanager
def compiling_everything() -> Iterator[None]:
    """Lets nothing be read from the programs that are kept, nor written there.

    For tests of compilation and of first calls: what they see must not depend on earlier runs.
    """
    requests = []

    def count(event: str, **_) -> None:
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            requests.append(event)

    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks at the switch once in a process
    monitoring.register_event_listener(count)
    try:
        yield
        assert not requests, "a program was sought among those that are kept"
    finally:
        monitoring.unregister_event_listener(count)
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


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
