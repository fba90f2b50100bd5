"""Where the compiled programs of the tests are kept from one run to the next.

python -m tests.support.programs    says how many there are, and makes room for the next run

A program's name holds its code, the compiler's flags and the versions, and the folder's name holds
what this processor can do: code that was compiled for another one must not be loaded.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import sys

__all__ = ["folder", "make_room", "settings"]

LARGEST = 2 * 1024**3
"""Bytes that are left standing; JAX's own limit reads the whole folder at every write."""


def features() -> str:
    """Returns what the processor can do, in eight letters."""
    told = [platform.machine()]
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        kinds = ("flags", "Features", "model name")
        told += sorted({x for x in cpuinfo.read_text().splitlines() if x.startswith(kinds)})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


def folder() -> pathlib.Path:
    """Returns the folder of the programs, below the user's cache folder unless told otherwise."""
    if told := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return pathlib.Path(told)
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "jaxprob" / f"programs-{features()}"


def settings() -> dict[str, str]:
    """Returns JAX's settings, as environment variables; what the caller has set stays."""
    ours = {
        "JAX_COMPILATION_CACHE_DIR": str(folder()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        # Else the folder's own path is part of every key, and a folder that was moved is worthless.
        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
    }
    return {name: os.environ.get(name, value) for name, value in ours.items()}


def make_room(path: pathlib.Path, largest: int = LARGEST) -> tuple[int, int, int]:
    """Deletes the programs used longest ago; returns how many, and files and bytes that stay."""
    found = []
    for file in path.glob("*-cache"):
        with contextlib.suppress(FileNotFoundError):  # another run makes room too
            found.append((file.stat(), file))
    found.sort(key=lambda pair: max(pair[0].st_atime, pair[0].st_mtime), reverse=True)
    total, kept = 0, 0
    for stat, file in found:
        if total + stat.st_size > largest:
            file.unlink(missing_ok=True)
        else:
            total, kept = total + stat.st_size, kept + 1
    return len(found) - kept, kept, total


if __name__ == "__main__":
    theirs = "JAX_COMPILATION_CACHE_DIR" in os.environ  # another's folder is not ours to cut
    deleted, files, size = make_room(folder(), sys.maxsize if theirs else LARGEST)
    print(f"compiled programs kept: {files}, {size / 1024**2:.0f} MiB; deleted: {deleted}")
