"""Compiled programs that are forgotten in time: each run has a loss and an optimiser of its own.

`jax.jit` keeps all that it has compiled for as long as the function lives. With a function for the
whole process, a loop over learning rates would grow by several MiB a turn.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["Programs"]

KEPT = 8
"""Programs of a function that are kept, those used last."""


class Programs:
    """A function that is jitted anew for each value of its static arguments.

    Args:
      function: What is compiled.
      static: Names of the hashable arguments that belong to a program; they are given by name.
      **options: Of `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], static: tuple[str, ...], **options: Any):
        @functools.lru_cache(maxsize=KEPT)
        def program(*values: Any) -> Any:
            fixed = dict(zip(static, values, strict=True))
            return jax.jit(functools.partial(function, **fixed), **options)

        self._program, self._static = program, static

    def __call__(self, *args: Any, **static: Any) -> Any:
        """Calls the program of these static arguments, compiled now or before."""
        return self._program(*(static[name] for name in self._static))(*args)

    def lower(self, *args: Any, **static: Any) -> Any:
        """Returns the program before it is compiled, as `jax.jit(...).lower` does."""
        return self._program(*(static[name] for name in self._static)).lower(*args)
