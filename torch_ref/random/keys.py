"""Keys: made from a seed, split, and folded with data, as `jax.random` does with Threefry.

    key(seed)        = (high 32 bits, low 32 bits) of the seed
    split(key, n)[i] = threefry(key, i)          fold_in(key, d) = threefry(key, d)

so `split(key, n)[i]` and `fold_in(key, i)` are one and the same key, for every n. Source:
`jax.random` 0.10 with its defaults (`threefry2x32`, partitionable); the hash is in `threefry.py`.

A key is an int64 tensor `[2]`, a batch of keys `[*batch, 2]`, each entry in [0, 2^32): the numbers
that `jax.random.key_data` shows. Functions given a batch of keys act as `jax.vmap` over it would;
`torch.func.vmap` over keys does not work, while `torch.func.grad` around draws does.
"""

import math
import operator
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from torch_ref.random.threefry import MASK, counter_hash, threefry2x32, to_numpy

__all__ = ["KeyStream", "check_key", "fold_in", "key", "split"]


def key(seed: int, *, x64: bool | None = None, device: torch.device | str | None = None) -> Tensor:
    """Makes a key from a seed.

    JAX reads a seed as 64 bits under `jax_enable_x64` and as 32 bits without it. The two agree for
    seeds in [0, 2^32); beyond, `jax.random.key(-1)` is (2^32-1, 2^32-1) in one mode and (0, 2^32-1)
    in the other, so such a seed needs `x64` to be said.

    Args:
        seed: Python integer, in [-2^63, 2^63) as in JAX. (A 32-bit JAX array as seed, under either
            mode, behaves as `x64=False`.)
        x64: Whether the JAX side runs with `jax_enable_x64`; may be left out in [0, 2^32).
        device: Where the key, and all that is drawn with it, shall live.

    Returns:
        The key, int64 `[2]`.

    Raises:
        ValueError: If `x64` is left out where it matters.
        OverflowError: If the seed does not fit in 64 bits.
    """
    seed = operator.index(seed)
    if not -(1 << 63) <= seed < 1 << 63:
        raise OverflowError(f"seed must fit in a signed 64-bit integer, got {seed}")
    high = (seed >> 32) & MASK
    if high and x64 is None:
        raise ValueError(
            f"seed {seed} lies outside [0, 2**32), where JAX's key depends on jax_enable_x64: "
            "pass x64=True to match JAX with 64-bit types, x64=False to match it without"
        )
    return torch.tensor([high if x64 else 0, seed & MASK], device=device)


def split(key: Tensor, num: int | Sequence[int] = 2) -> Tensor:
    """Makes new keys from a key.

    Args:
        key: Keys `[*batch, 2]`.
        num: How many, or the shape of the array of new keys.

    Returns:
        Keys `[*batch, *num, 2]`.
    """
    check_key(key)
    shape = (num,) if isinstance(num, int) else tuple(num)
    return torch.stack(counter_hash(key, shape), -1)


def fold_in(key: Tensor, data: int | Tensor) -> Tensor:
    """Makes a new key from a key and an integer.

    Args:
        key: Keys `[*batch, 2]`.
        data: Integer in [0, 2^32), or an integer tensor whose shape broadcasts against `batch`
            and whose values are taken modulo 2^32, as JAX takes those of an array.

    Returns:
        Keys `[*batch, 2]`, `batch` broadcast with the shape of `data`.

    Raises:
        OverflowError: If `data` is a Python integer outside [0, 2^32).
    """
    check_key(key)
    if isinstance(data, Tensor):
        k0, k1 = key.unbind(-1)
        words = threefry2x32(k0, k1, torch.zeros_like(k0), data.to(k0) & MASK)
        return torch.stack(words, -1)
    data = operator.index(data)
    if not 0 <= data <= MASK:
        raise OverflowError(f"fold_in takes an integer in [0, 2**32), got {data}")
    if key.ndim == 1:
        k0, k1 = to_numpy(key).tolist()
        return torch.tensor(threefry2x32(k0, k1, 0, data), device=key.device)
    return fold_in(key, torch.tensor(data, device=key.device))


def check_key(key: Tensor, *, single: bool = False) -> None:
    """Refuses what is not a key.

    Args:
        key: Candidate.
        single: Whether a batch of keys is refused too.

    Raises:
        TypeError: If `key` is not an int64 tensor.
        ValueError: If its shape is not that of a key.
    """
    if not isinstance(key, Tensor) or key.dtype != torch.int64:
        found = key.dtype if isinstance(key, Tensor) else type(key).__name__
        raise TypeError(f"a key is an int64 tensor [..., 2] made by key(seed), got {found}")
    if key.ndim == 0 or key.shape[-1] != 2:
        raise ValueError(f"a key has shape [..., 2], got {list(key.shape)}")
    if single and key.ndim > 1:
        raise ValueError(
            f"this function takes one key of shape [2], got {list(key.shape)}: "
            "call it once per key and stack the results"
        )


class KeyStream(Iterator[Tensor]):
    """An endless supply of keys: `next(stream)` is `key, new = split(key)` and hands out `new`.

    Args:
        start: Key `[2]`, or a seed for `key(seed)`.
        device: Where the keys shall live if `start` is a seed.
    """

    def __init__(self, start: Tensor | int, *, device: torch.device | str | None = None) -> None:
        if not isinstance(start, Tensor):
            start = key(start, device=device)
        check_key(start, single=True)
        self._k0, self._k1 = start.tolist()
        self._device = start.device

    @property
    def key(self) -> Tensor:
        """The key that the next split starts from, `[2]`: save it to resume the stream."""
        return torch.tensor([self._k0, self._k1], device=self._device)

    def __next__(self) -> Tensor:
        new = threefry2x32(self._k0, self._k1, 0, 1)
        self._k0, self._k1 = threefry2x32(self._k0, self._k1, 0, 0)
        return torch.tensor(new, device=self._device)

    def take(self, num: int | Sequence[int]) -> Tensor:
        """Hands out `num` keys in one tensor, the same ones that as many `next` calls would.

        Args:
            num: How many, or the shape of the array of keys.

        Returns:
            Keys `[*num, 2]`.
        """
        shape = (num,) if isinstance(num, int) else tuple(num)
        keys = [next(self) for _ in range(math.prod(shape))]
        return torch.stack(keys).reshape(*shape, 2) if keys else self.key.new_empty(*shape, 2)
