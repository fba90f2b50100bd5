"""The progress line of `fit`: a live bar in a terminal, a few plain lines elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress"]

PLAIN_LINES = 10
"""Without a terminal, about this many lines are printed for a run."""


class Progress:
    """Shows epochs, loss, nll, kl and validation loss, and says when it compiles.

    Args:
      epochs: Length of the run, or None where nobody knows.
      enabled: False shows nothing and never makes the program pause for it.
    """

    def __init__(self, epochs: int | None, enabled: bool = True):
        self.enabled = enabled
        self._epochs = epochs
        self._console = Console()
        self._live = enabled and self._console.is_terminal
        self._bar = None
        self._began = self._last = time.perf_counter()
        self._done = 0
        self._printed = 0

    def __enter__(self) -> "Progress":
        if self._live:
            self._bar = RichProgress(
                TextColumn(
                    "epoch {task.completed:>5}/{task.total}"
                    if self._epochs
                    else "epoch {task.completed}"
                ),
                BarColumn(),
                TextColumn("{task.fields[metrics]}"),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._epochs, metrics="compiling ...")
        elif self.enabled:
            print("compiling ...", flush=True)
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, metrics: dict[str, float], seconds: float) -> int:
        """Shows the state after epoch `done`; returns how many epochs fit into `seconds`."""
        now = time.perf_counter()
        per_epoch = (now - self._last) / max(done - self._done, 1)
        compiled = self._done == 0
        self._last, self._done = now, done
        text = "  ".join(f"{_short(name)} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=done, metrics=text)
        elif self.enabled:
            self._print(done, text, now - self._began, compiled)
        if compiled:  # the first epoch's time is mostly compilation: try a few more first
            return 4
        return max(1, int(seconds / max(per_epoch, 1e-9)))

    def _print(self, done: int, text: str, elapsed: float, compiled: bool) -> None:
        if compiled:
            print(f"compiled in {elapsed:.1f} s", flush=True)
        # of unknown length: a line at each power of two
        due = done * PLAIN_LINES // self._epochs if self._epochs else done.bit_length()
        if due > self._printed or done == self._epochs:
            self._printed = due
            total = f"/{self._epochs}" if self._epochs else ""
            print(f"epoch {done}{total}  {text}  [{elapsed:.1f} s]", flush=True)


def _short(name: str) -> str:
    return name.replace("validation_", "val ")
