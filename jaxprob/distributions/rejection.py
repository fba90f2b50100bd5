"""Rejection sampling for whole arrays at once.

Every element gets one proposal in one pass over the array. The rejected ones are packed into a
short array for the next, those rejected again into a shorter one, and the attempts go on there. The
numbers of an attempt depend on the key, the number of the attempt and the place of the element
alone: one that needs more attempts does not move its neighbours.

Twin: `torch_ref/distributions/rejection.py`. Source: von Neumann, "Various techniques used in
connection with random digits" (1951).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxprob.types import Array, Key

__all__ = ["first_accepted"]

# (key, shape, *parameters of that shape) -> (proposal, whether it is accepted)
Propose = Callable[..., tuple[Array, Array]]
# No honest sampler gets here (0.342 ** 1000), and a loop without an end is worse than NaN.
LAST = 1000
NO_PLACE = jnp.iinfo(jnp.int32).max


def first_accepted(propose: Propose, rejected: float, key: Key, *parameters: Array) -> Array:
    """Draws proposals for each element until one is accepted.

    Args:
      propose: Draws a proposal, and accepts it where a parameter is NaN.
      rejected: The largest share of proposals that is rejected, over all parameters, in (0, 1).
      key: A PRNG key.
      *parameters: Arrays `[N]`.

    Returns:
      What was accepted `[N]`; NaN where nothing was in 1000 attempts.
    """
    (size,) = parameters[0].shape
    first_key, again_key = jax.random.split(key)
    levels = 2 if rejected < 0.1 else 4

    def attempt(number: int | Array, place: Array, own: tuple[Array, ...]) -> tuple[Array, Array]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(again_key, number), place)
        value, good = jax.vmap(lambda key, *own: propose(key, (), *own))(keys, *own)
        return value, good | (place == NO_PLACE)

    def finish(number: int, place: Array, own: tuple[Array, ...]) -> Array:
        value, done = attempt(number, place, own)
        if number < levels:
            return pack(value, done, place, own, number + 1)

        def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            number, value, done = state
            new, good = attempt(number, place, own)
            return number + 1, jnp.where(done, value, new), done | good

        start = (jnp.full((), number + 1, jnp.uint32), value, done)
        last = jax.lax.while_loop(lambda s: (s[0] < LAST) & ~jnp.all(s[2]), again, start)
        return jnp.where(last[2], last[1], jnp.nan)

    def pack(value: Array, done: Array, place: Array | None, own, number: int) -> Array:
        """Replaces what was rejected; without places, they are those in the array itself."""
        (length,) = value.shape
        # Eight standard deviations above the mean; if there are more, the loop goes round again.
        mean = rejected * length
        room = min(length, 1 + int(mean + 8.0 * math.sqrt(mean)))

        def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
            value, done = state
            count = jnp.cumsum(~done, dtype=jnp.int32)
            at = jnp.searchsorted(count, jnp.arange(1, room + 1, dtype=jnp.int32))
            inner = at if place is None else place.at[at].get(mode="clip")
            inner = jnp.where(at < length, inner, NO_PLACE)
            found = finish(number, inner, tuple(p.at[at].get(mode="clip") for p in own))
            return value.at[at].set(found, mode="drop"), done.at[at].set(True, mode="drop")

        return jax.lax.while_loop(lambda s: ~jnp.all(s[1]), body, (value, done))[0]

    value, done = propose(first_key, (size,), *parameters)
    return pack(value, done, None, parameters, 1) if size else value
