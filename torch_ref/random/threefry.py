"""The counter-based generator under everything: Threefry-2x32 with 20 rounds.

A key (k0, k1) and a counter (c0, c1), four 32-bit words, give two random words:

    x = (c0 + k0, c1 + k1)
    20 rounds:  x0 += x1;  x1 = rotl(x1, r) ^ x0     (all modulo 2^32)
    after every fourth round j:  x += (k[j mod 3], k[(j + 1) mod 3] + j),  k2 = k0 ^ k1 ^ parity

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011 (rotation distances and parity constant are the paper's). Element `i` of an array is the
hash of the 64-bit counter `i`, high word first, so no number depends on the shape around it.

Keys are int64 tensors `[..., 2]` whose entries lie in [0, 2^32): torch has no arithmetic on uint32.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["counter_hash", "threefry2x32"]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
MASK = 0xFFFFFFFF

# Up to this many hashes, Python integers beat the fixed cost of some 120 array operations.
FEW = 4
# Three uint32 arrays of this length stay in the second-level cache.
BLOCK = 1 << 14
# Up to this many hashes, a key on a GPU is hashed on the host: 120 kernel launches cost more.
HOST_LIMIT = 1 << 12

Words = TypeVar("Words", int, Tensor)


def on_host(x: Tensor) -> bool:
    """Tells whether NumPy can work on a tensor's memory."""
    return x.device.type == "cpu"


def to_numpy(x: Tensor) -> np.ndarray:
    """Returns a tensor's numbers, also inside `torch.func.grad`, whose wrappers have no memory.

    Raises:
        RuntimeError: If `torch.func.vmap` runs over the tensor, so that it has no one value.
    """
    try:
        return x.numpy(force=True)
    except RuntimeError:
        values = x  # a wrapper of torch.func.grad: it gives its numbers as a list alone
    try:
        return np.asarray(values.tolist(), str(x.dtype).removeprefix("torch."))
    except RuntimeError as error:
        raise RuntimeError(
            "torch.func.vmap cannot run over keys: hand the batch of keys [*batch, 2] to the "
            "sampler, which acts as vmap would"
        ) from error


def threefry2x32(k0: Words, k1: Words, c0: Words, c1: Words) -> tuple[Words, Words]:
    """Hashes counters under keys, all of them Python integers or int64 tensors.

    Args:
        k0: First word of the key, in [0, 2^32); tensors broadcast against the counter.
        k1: Second word of the key.
        c0: High word of the counter, in [0, 2^32).
        c1: Low word of the counter.

    Returns:
        Two random words in [0, 2^32), of the broadcast shape.
    """
    keys = (k0, k1, k0 ^ k1 ^ PARITY)
    x0 = (c0 + k0) & MASK
    x1 = (c1 + k1) & MASK
    for j in range(1, 6):
        for r in ROTATIONS[(j - 1) % 2]:
            x0 = (x0 + x1) & MASK
            x1 = (((x1 << r) & MASK) | (x1 >> (32 - r))) ^ x0
        x0 = (x0 + keys[j % 3]) & MASK
        x1 = (x1 + keys[(j + 1) % 3] + j) & MASK
    return x0, x1


def counter_hash(key: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Hashes the counters 0, 1, 2, ... laid out in `shape`, once for every key.

    Args:
        key: Keys, int64 `[*batch, 2]`.
        shape: Shape of the counter array, row-major.

    Returns:
        Two int64 tensors `[*batch, *shape]` of words in [0, 2^32), on the device of `key`.
    """
    batch, shape = key.shape[:-1], tuple(shape)
    num_keys, num_counters = batch.numel(), math.prod(shape)
    total = num_keys * num_counters
    if 0 < total <= FEW:
        pairs = [
            threefry2x32(k0, k1, 0, i)
            for k0, k1 in to_numpy(key).reshape(-1, 2).tolist()
            for i in range(num_counters)
        ]
        x0, x1 = torch.tensor(pairs, device=key.device).unbind(-1)
    elif on_host(key) or total <= HOST_LIMIT:
        words = _hash_on_host(to_numpy(key).reshape(-1, 2), num_counters)
        x0, x1 = torch.from_numpy(words).to(key.device).unbind(0)
    else:
        index = torch.arange(num_counters, device=key.device)
        k0, k1 = key.reshape(-1, 2, 1).unbind(1)
        x0, x1 = threefry2x32(k0, k1, index >> 32, index & MASK)
    return x0.reshape(batch + shape), x1.reshape(batch + shape)


def _hash_on_host(keys: np.ndarray, num_counters: int) -> np.ndarray:
    """Hashes counters 0, 1, ... under keys `[n, 2]`; returns words `[2, n, num_counters]`."""
    num_keys = len(keys)
    keys = keys.astype(np.uint32)
    out = np.empty((2, num_keys, num_counters), np.int64)
    cols = max(1, min(num_counters, BLOCK))
    rows = max(1, BLOCK // cols)
    for r in range(0, num_keys, rows):
        k0, k1 = keys[r : r + rows].T
        for c in range(0, num_counters, cols):
            low = np.arange(c & MASK, (c & MASK) + min(cols, num_counters - c)).astype(np.uint32)
            x0, x1 = _threefry_uint32(k0, k1, np.uint32(c >> 32), low[:, None])
            out[0, r : r + rows, c : c + cols] = x0.T
            out[1, r : r + rows, c : c + cols] = x1.T
    return out


def _threefry_uint32(
    k0: np.ndarray, k1: np.ndarray, high: np.uint32, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`threefry2x32` in place on uint32, which wraps by itself: keys `[n]`, `low [m, 1]`."""
    keys = (k0, k1, k0 ^ k1 ^ np.uint32(PARITY))
    x1 = low + k1
    x0 = np.empty_like(x1)
    x0[:] = k0 + high
    left = np.empty_like(x1)
    for j in range(1, 6):
        for r in ROTATIONS[(j - 1) % 2]:
            np.add(x0, x1, out=x0)
            np.left_shift(x1, _SHIFTS[r], out=left)
            np.right_shift(x1, _SHIFTS[32 - r], out=x1)
            np.bitwise_or(x1, left, out=x1)
            np.bitwise_xor(x1, x0, out=x1)
        np.add(x0, keys[j % 3], out=x0)
        np.add(x1, keys[(j + 1) % 3] + np.uint32(j), out=x1)
    return x0, x1


# Ready-made operands: converting a Python integer costs more than shifting a small array.
_SHIFTS = [np.array(r, np.uint32) for r in range(33)]
