"""The hashes of the files of a checkpoint, by which a damaged one is known and its file named."""

import hashlib
import json
import os
import pathlib

__all__ = ["damaged_file", "has_hashes", "write_hashes"]

NAME = "hashes.json"


def write_hashes(directory: pathlib.Path) -> None:
    """Writes the hashes of all files in a directory into a file of it, at once or not at all."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    hashes = {str(path.relative_to(directory)): _hash(path) for path in files}
    text = json.dumps(hashes, indent=1)
    whole = {"hash": hashlib.blake2b(text.encode()).hexdigest(), "files": hashes}
    temporary = directory / f"{NAME}.tmp"
    temporary.write_text(json.dumps(whole, indent=1))
    os.replace(temporary, directory / NAME)


def has_hashes(directory: pathlib.Path) -> bool:
    """Whether the hashes were written: a run that is killed may not come to it."""
    return (directory / NAME).exists()


def damaged_file(directory: pathlib.Path) -> str | None:
    """Returns what is wrong with the first file that is not as it was written, or None."""
    path = directory / NAME
    if not path.exists():
        return None
    try:
        whole = json.loads(path.read_bytes())
        hashes = whole["files"]
        text = json.dumps(hashes, indent=1)
        if hashlib.blake2b(text.encode()).hexdigest() != whole["hash"]:
            return f"{path} is not what was written"
    except (ValueError, KeyError, TypeError):
        return f"{path} is not what was written"
    for name, written in hashes.items():
        file = directory / name
        if not file.is_file():
            return f"{file} is missing"
        if _hash(file) != written:
            return f"{file} is not what was written"
    return None


def _hash(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
