"""A damaged file gives the right arrays or a ValueError with its path, and nothing else."""

import json
import struct
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxprob import interop

WAYS = 600
WILD = 2_000_000
"""Bytes; the files have a thousand."""

TREE = {
    "a": {"w": jnp.arange(6.0).reshape(2, 3), "n": jnp.arange(4, dtype=jnp.uint16)},
    "b": jnp.ones(3, jnp.bfloat16),
    "c": jnp.array([True, False]),
}


def a_module():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    module.register_buffer("counts", torch.tensor([1, 2, 60000], dtype=torch.uint16))
    return module


def header(data):
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(head, body):
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def cut(rng, data):
    return data[: rng.integers(len(data))]


def grown(rng, data):
    at = rng.integers(len(data) + 1)
    return data[:at] + rng.bytes(int(rng.integers(1, 9))) + data[at:]


def flipped_bits(rng, data):
    out = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 4)):
        out[at] ^= 1 << rng.integers(8)
    return bytes(out)


def other_bytes(rng, data):
    out = bytearray(data)
    at = rng.integers(len(data))
    out[at : at + 4] = rng.bytes(len(out[at : at + 4]))
    return bytes(out)


def swapped(rng, data):
    one, two, three = sorted(rng.integers(len(data), size=3))
    return data[:one] + data[two:three] + data[one:two] + data[three:]


def header_size(rng, data):
    small = (0, 1, 8, len(data), 2**31, 2**40, 2**63, 2**64 - 1)
    return struct.pack("<Q", small[rng.integers(len(small))]) + data[8:]


def a_tensor(rng, data, change):
    head, body = header(data)
    names = [name for name in head if name != "__metadata__"]
    change(head, names[rng.integers(len(names))])
    return joined(head, body)


def offsets(rng, data):
    def change(head, name):
        pair = head[name]["data_offsets"]
        wild = (-1, 0, 1, 7, 2**33, 2**62, 2**64 - 1)
        pair[rng.integers(2)] = wild[rng.integers(len(wild))]

    return a_tensor(rng, data, change)


def dtypes(rng, data):
    kinds = ("F64", "F32", "F16", "BF16", "I64", "I8", "U8", "BOOL", "F8_E4M3", "F4", "C64", "?", 3)

    def change(head, name):
        head[name]["dtype"] = kinds[rng.integers(len(kinds))]

    return a_tensor(rng, data, change)


def shapes(rng, data):
    wild = ([], [0], [-1], [2**40], [2**32, 2**32], [0, 2**62], [3, 2], [6], [1.5], "6", None)

    def change(head, name):
        head[name]["shape"] = wild[rng.integers(len(wild))]

    return a_tensor(rng, data, change)


def names(rng, data):
    def change(head, name):
        part = head.pop(name)
        if rng.integers(2):
            head["other"] = part

    return a_tensor(rng, data, change)


def manifests(rng, data):
    head, body = header(data)
    text = head["__metadata__"]["jaxprob"]
    manifest = json.loads(text)
    key = list(manifest)[rng.integers(len(manifest))]
    if rng.integers(2):
        manifest.pop(key)
    else:
        others = (None, 0, "flax", "torch", [], {}, [["a"]], {"w": ["a"]}, "[" * 3000)
        manifest[key] = others[rng.integers(len(others))]
    whole = (json.dumps(manifest), "null", "[]", "7", "{", '{"version": 2}', "[" * 100_000)
    head["__metadata__"]["jaxprob"] = whole[rng.choice(7, p=[0.7] + [0.05] * 6)]
    if rng.integers(2):
        head["__metadata__"].pop("sha256")
    return joined(head, body)


DAMAGES = (cut, grown, flipped_bits, other_bytes, swapped, header_size, offsets, dtypes, shapes,
           names, manifests)  # fmt: skip

MODULE = a_module()
FILES = {
    "params": (TREE, lambda path: interop.load(path)),
    "params with an example": (TREE, lambda path: interop.load(path, TREE)),
    "pytree": ((TREE, [jnp.ones(2)]), lambda path: interop.load(path, (TREE, [jnp.ones(2)]))),
    "module": (MODULE, lambda path: interop.load_for_torch(path, MODULE)),
}


def leaves_of(loaded):
    return [np.asarray(leaf).tobytes() if not torch.is_tensor(leaf) else leaf.numpy().tobytes()
            for leaf in jax.tree.leaves(loaded)]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_never_gives_other_numbers(tmp_path, name):
    """600 ways from a fixed seed: cut, grown, flipped, headers, offsets, dtypes, manifests."""
    written, read = FILES[name]
    path = tmp_path / "damaged.safetensors"
    interop.save(path, written)
    data, wanted = path.read_bytes(), leaves_of(read(path))
    rng = np.random.default_rng(7)
    refused = 0
    tracemalloc.start()
    try:
        for way in range(WAYS):
            damage = DAMAGES[way % len(DAMAGES)]
            path.write_bytes(damage(rng, data))
            tracemalloc.reset_peak()
            try:
                found = leaves_of(read(path))
            except ValueError as error:
                found = wanted
                refused += "damaged.safetensors" in str(error)
                named = "damaged.safetensors" in str(error)
            else:
                named = True
            assert named, (way, damage.__name__)
            assert found == wanted, (way, damage.__name__)
            assert tracemalloc.get_traced_memory()[1] < WILD, (way, damage.__name__)
    finally:
        tracemalloc.stop()
    assert refused > 0.85 * WAYS


@pytest.mark.parametrize("name", ["params", "module"])
def test_a_manifest_without_a_hash_is_read_or_refused(tmp_path, name):
    """Version 1 had none: an altered manifest may give another tree, but no raw error."""
    written, read = FILES[name]
    path = tmp_path / "old.safetensors"
    interop.save(path, written)
    rng = np.random.default_rng(3)
    for _ in range(150):
        head, body = header(path.read_bytes())
        manifest = json.loads(head["__metadata__"]["jaxprob"]) | {"version": 1}
        key = list(manifest)[rng.integers(len(manifest))]
        others = (None, 0, "flax", "torch", [], {}, [["a"]], {"a/w": ["a"]}, {"": 3}, [3])
        manifest[key] = others[rng.integers(len(others))]
        head["__metadata__"] = {"format": "jaxprob", "jaxprob": json.dumps(manifest)}
        (tmp_path / "other").write_bytes(joined(head, body))
        try:
            read(tmp_path / "other")
        except ValueError:
            continue


def test_arrays_of_a_foreign_order_of_bytes_come_back(tmp_path):
    """Arrays of another byte order are written in this machine's."""
    for kind in (">f4", ">i2", ">u8", "<f8"):
        array = np.arange(5).astype(kind)
        interop.save(tmp_path / "w", {"a": array})
        loaded = interop.load(tmp_path / "w")["a"]
        assert loaded.dtype == np.dtype(kind).newbyteorder("=")
        np.testing.assert_array_equal(loaded, array)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    interop.save(tmp_path / "w", TREE)

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(tmp_path / "w"))

    monkeypatch.setattr("jaxprob.interop.payload.safe_open", refuse)
    with pytest.raises(PermissionError, match="Permission denied"):
        interop.load(tmp_path / "w")
