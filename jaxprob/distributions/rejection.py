"""Rejection sampling for whole arrays at once.

Every element gets one proposal in one pass over the array. The rejected ones are packed into a
short array for the next, those rejected again into a shorter one, and the attempts go on there. The
numbers of an attempt depend on the key, the number of the attempt and the place of the element
alone: one that needs more attempts does not move its neighbours, and how the rest is packed does
not matter.

Twin: `torch_ref/distributions/rejection.py`. Source: von Neumann, "Various techniques used in
connection with random digits" (1951).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprob.types import Array, Key

__all__ = ["first_accepted"]

# (u, v, *parameters) -> (proposal, whether it is accepted), u and v uniform in [0, 1)
Propose = Callable[..., tuple[Array, Array]]
# No honest sampler gets here (0.342 ** 1000), and a loop without an end is worse than NaN.
LAST = 1000
SHORT = 1024  # elements, for which packing is not worth its compilation
NO_PLACE = jnp.iinfo(jnp.int32).max


def first_accepted(propose: Propose, rejected: float, key: Key, *parameters: Array) -> Array:
    """Draws proposals for each element until one is accepted.

    Args:
      propose: Makes a proposal of two uniform numbers in [0, 1) and the parameters, and says
        whether it is accepted; it is where a parameter is NaN.
      rejected: The largest share of proposals that is rejected, over all parameters, in (0, 1).
      key: A PRNG key.
      *parameters: Arrays `[N]`.

    Returns:
      What was accepted `[N]`; NaN where nothing was in 1000 attempts.
    """
    (size,) = parameters[0].shape
    dtype = parameters[0].dtype
    first_key, again_key = jax.random.split(key)
    levels = 0 if size <= SHORT else 2

    def attempt(number: int | Array, place: Array, own: tuple[Array, ...]) -> tuple[Array, Array]:
        u, v = _uniforms(jax.random.fold_in(again_key, number), place, dtype)
        value, good = propose(u, v, *own)
        return value, good | (place == NO_PLACE)

    def repeat(value: Array, done: Array, place: Array, own: Any, number: int) -> Array:
        """Makes attempts from `number` on where nothing was accepted yet."""

        def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            number, value, done = state
            new, good = attempt(number, place, own)
            return number + 1, jnp.where(done, value, new), done | good

        start = (jnp.full((), number, jnp.uint32), value, done)
        last = jax.lax.while_loop(lambda s: (s[0] < LAST) & ~jnp.all(s[2]), again, start)
        return jnp.where(last[2], last[1], jnp.nan)

    def replace(value: Array, done: Array, place: Array | None, own: Any, number: int) -> Array:
        """The same, on shorter arrays. Without places, they are those in the array itself."""
        (length,) = value.shape
        if number > levels:
            whole = jnp.arange(length, dtype=jnp.int32) if place is None else place
            return repeat(value, done, whole, own, number)
        # Eight standard deviations above the mean; if there are more, the loop goes round again.
        mean = rejected * length
        room = min(length, 1 + int(mean + 8.0 * math.sqrt(mean)))

        def pack(state: tuple[Array, Array]) -> tuple[Array, Array]:
            value, done = state
            count = jnp.cumsum(~done, dtype=jnp.int32)
            at = jnp.searchsorted(count, jnp.arange(1, room + 1, dtype=jnp.int32))
            inner = at if place is None else place.at[at].get(mode="clip")
            inner = jnp.where(at < length, inner, NO_PLACE)
            packed = tuple(p.at[at].get(mode="clip") for p in own)
            found = replace(*attempt(number, inner, packed), inner, packed, number + 1)
            return value.at[at].set(found, mode="drop"), done.at[at].set(True, mode="drop")

        return jax.lax.while_loop(lambda s: ~jnp.all(s[1]), pack, (value, done))[0]

    keys = jax.random.split(first_key)
    u, v = (jax.random.uniform(key, (size,), dtype) for key in keys)
    return replace(*propose(u, v, *parameters), None, parameters, 1)


def _uniforms(key: Key, place: Array, dtype: Any) -> tuple[Array, Array]:
    """Two uniform numbers in [0, 1) for each place, of the bits of its key: no loop over keys."""

    def words(key: Key) -> tuple[Array, Array]:
        data = jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(key, place))
        return data[:, 0], data[:, 1]

    def long(key: Key) -> Array:
        high, low = words(key)
        return high.astype(dtype) * 2.0**-32 + (low >> 12).astype(dtype) * 2.0**-52

    if jnp.finfo(dtype).nmant > 30:
        u_key, v_key = jax.random.split(key)
        return long(u_key), long(v_key)
    u, v = ((word >> 9).astype(dtype) * 2.0**-23 for word in words(key))
    return u, v
