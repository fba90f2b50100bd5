"""Random order, and samples from a list.

    permutation   a few rounds of: draw 32 random bits per element, sort by them, stably
    choice        without p:  randint or permutation
                  with p:     the first index whose cumulated p reaches p_total (1 - u), or, without
                              replacement, the largest values of log p + gumbel

ceil(3 log n / log(2^32 - 1)) rounds make ties in all of them improbable. Source: `jax.random` 0.10.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from torch_ref.random.base import float_dtype, uniform
from torch_ref.random.continuous import gumbel
from torch_ref.random.discrete import randint
from torch_ref.random.elementary import cumsum, log
from torch_ref.random.keys import check_key, split
from torch_ref.random.threefry import MASK, counter_hash

__all__ = ["choice", "permutation"]


def permutation(key: Tensor, x: int | Tensor, axis: int = 0, independent: bool = False) -> Tensor:
    """Shuffles an array, or the numbers 0, ..., n - 1.

    Args:
        key: Key `[2]`; keys `[*batch, 2]` if `x` is a number.
        x: Array to shuffle along `axis`, or the number n.
        axis: Axis to shuffle.
        independent: Whether every vector along `axis` gets an order of its own.

    Returns:
        Tensor of the shape and type of `x`, or int64 `[*batch, n]`.
    """
    check_key(key, single=isinstance(x, Tensor))
    if not isinstance(x, Tensor):
        return _shuffled_indices(key, (x,), -1)
    if independent:
        return x.gather(axis, _shuffled_indices(key, x.shape, axis % x.ndim))
    return x.index_select(axis, _shuffled_indices(key, (x.shape[axis],), 0))


def _shuffled_indices(key: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    """Shuffles indices along one axis of an array, each line on its own.

    Args:
        key: Keys `[*batch, 2]`.
        shape: Shape of the array.
        axis: Which axis; negative for a batch of keys.

    Returns:
        Int64 `[*batch, *shape]`: what to `gather` along `axis`.
    """
    size = math.prod(shape)
    num_rounds = math.ceil(3 * math.log(max(1, size)) / math.log(MASK))
    index = torch.arange(shape[axis], device=key.device)
    index = index.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    index = index.expand(key.shape[:-1] + tuple(shape))
    for _ in range(num_rounds):
        key, subkey = split(key).unbind(-2)
        a, b = counter_hash(subkey, shape)
        order = torch.sort(a ^ b, dim=axis, stable=True).indices
        index = index.gather(axis, order)
    return index


def choice(
    key: Tensor,
    a: int | Tensor,
    shape: Sequence[int] = (),
    replace: bool = True,
    p: Tensor | None = None,
    axis: int = 0,
    mode: Literal["low", "high"] | None = None,
) -> Tensor:
    """Samples from an array, or from the numbers 0, ..., a - 1.

    Args:
        key: Key `[2]`.
        a: Array to take slices from along `axis`, or how many numbers there are.
        shape: Shape of the sample.
        replace: Whether an element may be taken more than once.
        p: Probabilities `[n]` of the elements; default all equal.
        axis: Axis of `a` to take from.
        mode: How Gumbel noise is drawn for `p` without replacement, see `gumbel`.

    Returns:
        Tensor like `a` with `shape` in place of `axis`, or int64 `[*shape]`. Drawing uniformly with
        replacement uses `default_int_dtype()`, which thus decides what comes out.

    Raises:
        ValueError: If `a` is empty, too small for a sample without replacement, or unlike `p`.
    """
    check_key(key, single=True)
    size = a.shape[axis] if isinstance(a, Tensor) else a
    shape = tuple(shape)
    num_draws = math.prod(shape)
    if num_draws and size <= 0:
        raise ValueError("cannot sample from an empty array")
    if not replace and num_draws > size:
        raise ValueError(
            f"cannot take {num_draws} of {size} elements without replacement: "
            "ask for fewer or pass replace=True"
        )
    if p is not None and p.shape != (size,):
        raise ValueError(f"p must have shape [{size}], got {list(p.shape)}")
    if num_draws == 0:
        index = torch.empty(shape, dtype=torch.int64, device=key.device)
    elif p is None:
        index = randint(key, shape, 0, size) if replace else permutation(key, size)[:num_draws]
    elif replace:
        total = cumsum(p)
        u = uniform(key, shape, float_dtype(p.dtype))
        index = torch.searchsorted(total, total[-1] * (1 - u))
    else:
        scores = gumbel(key, (size,), p.dtype, mode) + log(p)
        index = torch.sort(scores, descending=True, stable=True).indices[:num_draws]
    index = index.reshape(shape).to(torch.int64)
    if not isinstance(a, Tensor):
        return index
    axis %= a.ndim
    taken = a.index_select(axis, index.reshape(-1))
    return taken.reshape(a.shape[:axis] + shape + a.shape[axis + 1 :])
