"""Tensors with a manifest in one file of safetensors: written whole, and read whole or refused.

The metadata holds the manifest, as JSON, and the SHA-256 of manifest and tensors, so that a file
with one flipped bit is refused.
"""

import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

__all__ = ["DTYPES", "FAULTS", "VERSION", "add", "damaged", "read", "write"]

FORMAT = "jaxprob"
VERSION = 2
"""Version 1 had no hash."""

RESERVED = "__metadata__"
"""The one name that safetensors keeps for itself."""

DTYPES = frozenset(
    ["bool", "bfloat16", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""What safetensors writes and reads back."""

FAULTS = (
    SafetensorError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What damaged bytes raise in the libraries that read them."""


def write(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], manifest: dict[str, Any]
) -> None:
    """Writes a file that appears whole or not at all.

    It gets the mode of the file that it replaces, or that of any new file.
    """
    text = json.dumps(manifest)
    metadata = {"format": FORMAT, "jaxprob": text, "sha256": _digest(text, tensors)}
    data = serialise(tensors, metadata)
    target = pathlib.Path(path)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    # 0o666 less the umask, as for any new file
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if target.exists():
                os.chmod(temporary, target.stat().st_mode & 0o7777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _digest(manifest: str, tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of the manifest and of every tensor: name, dtype, shape and bytes."""
    state = hashlib.sha256(manifest.encode())
    for name in sorted(tensors):
        array = tensors[name]
        state.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        state.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def read(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the tensors and the manifest of a file that `write` wrote.

    Raises:
      ValueError: No such file of ours, a damaged one, or one of a later version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            text = metadata.get("jaxprob")
            manifest = None if text is None else json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, PermissionError):
        raise
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a directory; give the file inside it.") from error
    except FAULTS as error:
        raise ValueError(damaged(path, str(error))) from error
    if manifest is None:
        raise ValueError(
            f"{path} has no jaxprob manifest, so the layouts of its layers are unknown. Load "
            "it into its PyTorch module and use interop.from_torch, or write it with "
            "interop.save."
        )
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or version < 1:
        raise ValueError(damaged(path, "its manifest has no version"))
    if manifest["version"] > VERSION:
        raise ValueError(
            f"{path} was written in version {manifest['version']} of the format; this is "
            f"version {VERSION}. Upgrade jaxprob."
        )
    if manifest["version"] > 1 or "sha256" in metadata:
        whole = metadata.get("sha256") == _digest(text, tensors)
        if not whole or metadata.get("format") != FORMAT:
            raise ValueError(damaged(path, "its bytes are not those that were written"))
    return tensors, manifest


def damaged(path: str | os.PathLike, reason: str) -> str:
    """The sentence for a file that is not whole."""
    return f"{path} is damaged or no safetensors file: {reason}. Write it again, or take a copy."


def add(tensors: dict[str, np.ndarray], name: str, leaf: Any) -> None:
    """Adds a leaf by its name.

    Raises:
      ValueError: Not an array, a dtype that is not read back, or a name that is taken.
    """
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        raise ValueError(
            f"save: {name} is a {type(leaf).__name__}, not an array. Keep the arrays of an object, "
            "such as `vars(x)` or the state that its fit returned."
        )
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        raise ValueError(f"save: {name} is a random key; store jax.random.key_data(key).")
    if np.dtype(leaf.dtype).name not in DTYPES:
        raise ValueError(
            f"save: {name} is {leaf.dtype}, which safetensors cannot read back. Convert it first, "
            f"to one of {', '.join(sorted(DTYPES))}."
        )
    if name in tensors:
        raise ValueError(
            f"save: two leaves have the name {name!r} ('/' inside of a key looks like a level). "
            "Rename one of them."
        )
    if name == RESERVED:
        raise ValueError(f"save: the name {name!r} is reserved by safetensors. Rename that leaf.")
    array = np.array(leaf, order="C")
    tensors[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
