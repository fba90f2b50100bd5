"""A lock on a directory of checkpoints: two runs in one place would remove each other's files.

It is a file that names the host and the process. That of a process that is dead on this host is
taken over, so that a killed run can go on; of a process on another host nobody here can know.
"""

import json
import os
import pathlib
import socket
import time
from typing import Any

__all__ = ["DirectoryLock"]

NAME = "lock.json"

_held: set[pathlib.Path] = set()
"""The locks of this process, which a number of a process cannot tell from one left behind."""


class DirectoryLock:
    """Holds a directory until `release`.

    Args:
      directory: The directory; it exists.
      owner: Who asks, for messages.

    Raises:
      ValueError: Another run holds it; the message names its process and host.
    """

    def __init__(self, directory: pathlib.Path, owner: str):
        self._path = directory.resolve() / NAME
        mine = {"pid": os.getpid(), "host": socket.gethostname(), "began": _began(os.getpid())}
        for _ in range(10):  # another process may take over the same lock at the same time
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._remove_if_stale(owner, mine["host"])
                continue
            with os.fdopen(descriptor, "w") as file:
                json.dump(mine, file)
            _held.add(self._path)
            return
        raise ValueError(f"{owner}: the lock {self._path} could not be taken. Try again.")

    def _remove_if_stale(self, owner: str, host: str) -> None:
        theirs = _read(self._path)
        if theirs is None:
            return
        pid, where = theirs.get("pid"), theirs.get("host")
        alive = where != host or _runs(pid, theirs.get("began"))
        if pid == os.getpid() and where == host:
            alive = self._path in _held
        if alive:
            here = "this process" if pid == os.getpid() and where == host else f"process {pid}"
            raise ValueError(
                f"{owner}: checkpoint_dir {self._path.parent} is in use by {here} on host {where}; "
                "two runs would remove each other's checkpoints. Give another directory, or wait. "
                f"If that run is dead, delete {self._path}."
            )
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Gives the directory back."""
        if self._path in _held:
            _held.discard(self._path)
            self._path.unlink(missing_ok=True)


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """What the lock says; None where it has gone, nothing where it was cut short by a kill."""
    for _ in range(5):
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:  # half written: perhaps it is being written right now
            time.sleep(0.05)
            continue
        return found if isinstance(found, dict) else {}
    return {"host": socket.gethostname()}


def _runs(pid: Any, began: Any) -> bool:
    """Whether a process of this host lives; another one may have been given its number since."""
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    now = _began(pid)
    return now is None or began is None or now == began


def _began(pid: int) -> str | None:
    """When a process began, in ticks since the machine did; None where nobody says so."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
