"""Ctrl-C during a run: kept until no step is half done, then raised.

Python raises `KeyboardInterrupt` between any two instructions, also between a call that wrote over
the old state and the assignment that would keep the new one. Here it is noted, and raised where the
state is whole: after an epoch, or after a step of a stream. A second Ctrl-C is raised at once.
"""

import signal
import threading
from typing import Any

__all__ = ["Interrupts"]


class Interrupts:
    """A context in which Ctrl-C waits for `look`.

    Whoever enters it looks a last time before the end. In threads other than the main one, and
    where a program has a handler of its own, nothing is changed: there Python or that handler
    decides.

    Args:
      owner: "fit" or "fit_ensemble", for the message.
    """

    def __init__(self, owner: str):
        self._owner = owner
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            inside = isinstance(getattr(handler, "__self__", None), Interrupts)  # a run in a run
            if handler is signal.default_int_handler or inside:
                self._before = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def look(self) -> None:
        """Raises the interrupt, if there was one."""
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt(
                f"{self._owner}: interrupted; the result so far is kept in the attribute `fitted` "
                "of this error."
            )
