"""Quantiles by search, for distributions that have a cdf but no inverse of it.

Both searches walk over the floating-point numbers themselves, ordered as integers: halving that
order reaches any number of any size in 32 steps (64 in float64), from the whole line if need be.
They work on the lower tail P(X <= x) where q <= 1/2 and on the upper tail P(X > x) above, so that
neither tail loses digits. `monotone_quantile` takes Newton steps on the logarithm of the tail
between them and is differentiable to any order by the implicit function theorem:

    F(x(q, theta), theta) = q   =>   dx = (dq - dF/dtheta . dtheta) / p(x)

Twin: `torch_ref/distributions/quantiles.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxprob.distributions.validation import unchecked
from jaxprob.types import Array

__all__ = ["monotone_quantile", "smallest_integer"]

# How far, in units of the last place, a cdf may round below q and still count as having reached it.
ROUNDING = 16


def monotone_quantile(
    q: Array,
    tails: Callable[[Array], tuple[Array, Array]],
    density: Callable[[Array], Array],
    lower: Array,
    upper: Array,
    tail: Array | None = None,
    gaps: bool = False,
) -> Array:
    """Solves cdf(x) = q for x inside a bracket, element by element.

    Args:
      q: Probabilities, of the shape of the result.
      tails: x -> (P(X <= x), P(X > x)), elementwise over that shape.
      density: x -> p(x), the derivative of the cdf.
      lower: A point at or below the root, of the same shape; may be -inf.
      upper: A point at or above the root, of the same shape; may be inf.
      tail: 1 - q where it is known to more digits than q gives.
      gaps: Whether the cdf may have flat stretches, as between the components of a mixture. A
        quantile inside one is the middle of all points whose cdf is q up to rounding.

    Returns:
      The root, to the last few bits of the dtype, with derivatives of any order towards `q` and
      whatever `tails` closes over (0 inside a flat stretch).
    """
    tail = 1.0 - q if tail is None else tail
    low_tail = q <= 0.5
    wanted = jnp.where(low_tail, q, tail)
    # q = 0 and q = 1 give the ends of the bracket, whatever the cdf says there.
    inner = (wanted > 0.0) & (lower < upper)

    def tail_and_slope(x: Array) -> tuple[Array, Array]:
        return jnp.where(low_tail, *tails(x)), density(x)

    def excess(x: Array) -> Array:  # rises through 0 at the root
        x = jnp.where(inner, x, 0.0)  # infinite ends have no gradients
        below, above = tails(x)
        return jnp.where(low_tail, below - q, tail - above)

    def solve(_, start: Array) -> Array:
        del start

        def find(level: Array) -> Array:
            return _search(tail_and_slope, level, low_tail, lower, upper)

        if not gaps:
            return jax.lax.stop_gradient(find(wanted))
        slack = 4 * jnp.finfo(q.dtype).eps
        around = jax.vmap(find)(jnp.stack([wanted * (1.0 - slack), wanted * (1.0 + slack)]))
        return jax.lax.stop_gradient(0.5 * around[0] + 0.5 * around[1])

    def solve_tangent(linear: Callable[[Array], Array], right: Array) -> Array:
        gradient = linear(jnp.ones_like(right))
        usable = gradient > jnp.finfo(gradient.dtype).tiny
        return jnp.where(usable, right / jnp.where(usable, gradient, 1.0), 0.0)

    with unchecked():  # the arguments were checked by the caller
        end = jnp.where(low_tail, lower, upper)
        root = jax.lax.custom_root(
            excess, jax.lax.stop_gradient(jnp.zeros_like(q)), solve, solve_tangent
        )
    root = jnp.where(inner, root, jax.lax.stop_gradient(end))
    return jnp.where(jnp.isnan(q), jnp.nan, root)


def _search(tail_and_slope, wanted: Array, low_tail: Array, lower: Array, upper: Array) -> Array:
    """Newton's method on log tail(x) - log wanted, kept inside a bracket that is halved."""
    eps = jnp.finfo(wanted.dtype).eps
    sign = jnp.where(low_tail, 1.0, -1.0).astype(wanted.dtype)

    def unfinished(state):
        step, low, high, _, _, done = state
        return (step < 200) & ~jnp.all(done | (low + 1 >= high))

    def advance(state):
        step, low, high, x, move, done = state
        probability, gradient = tail_and_slope(x)
        below = jnp.where(low_tail, probability < wanted, probability > wanted)
        # Subnormal numbers count as 0: what holds there holds for all of them.
        zero = x == 0.0
        below_order = jnp.where(zero, smallest - 1, _ordered(x))
        above_order = jnp.where(zero, 1 - smallest, _ordered(x))
        low = jnp.where(below & ~done, below_order, low)
        high = jnp.where(below | done, high, above_order)
        usable = (probability > 0.0) & (gradient > 0.0)
        log_ratio = jnp.log(jnp.where(usable, probability, 1.0) / wanted)
        newton = -sign * log_ratio * probability / jnp.where(usable, gradient, 1.0)
        place = _ordered(x + newton)
        # Newton's step has to stay inside and to shrink, or else the bracket is halved.
        fast = usable & (place > low) & (place < high) & (jnp.abs(newton) < 0.5 * jnp.abs(move))
        close = usable & (jnp.abs(newton) <= 2.0 * eps * jnp.abs(x))
        following = jnp.where(fast, x + newton, _unordered(_halfway(low, high)))
        following = jnp.where(done | close, x, following)
        return step + 1, low, high, following, following - x, done | close

    low, high = _ordered(lower), _ordered(upper)
    smallest = _ordered(jnp.finfo(wanted.dtype).tiny * jnp.ones((), wanted.dtype))
    start = _unordered(_halfway(low, high))
    never = jnp.zeros(start.shape, bool)
    state = (jnp.asarray(0), low, high, start, jnp.full_like(start, jnp.inf), never)
    _, low, high, x, _, done = jax.lax.while_loop(unfinished, advance, state)
    # A root between 0 and the smallest normal number is 0.
    return jnp.where(done, x, jnp.where(high == smallest, 0.0, _unordered(high)))


def smallest_integer(
    q: Array,
    tail: Array,
    tails: Callable[[Array], tuple[Array, Array]],
    lower: Array,
    upper: Array,
) -> Array:
    """Returns the smallest integer k between `lower` and `upper` with cdf(k) >= q.

    Up to the median a cdf that rounds below q by no more than a few units in the last place counts
    as having reached it; above, the upper tail is judged, and a cdf that rounds to q or more has
    reached it as well. So quantile(cdf(k)) = k. There is no gradient.

    Args:
      q: Probabilities, of the shape of the result.
      tail: 1 - q, to its own precision.
      tails: k -> (P(X <= k), P(X > k)), elementwise.
      lower: Smallest integer of the support, of the same shape.
      upper: Largest integer of the support, of the same shape; may be inf.
    """
    q, tail, lower, upper = jax.lax.stop_gradient((q, tail, lower, upper))
    slack = ROUNDING * jnp.finfo(q.dtype).eps

    def reached(k: Array) -> Array:
        below, above = tails(k)
        upper = (above <= tail * (1.0 + slack)) | (below >= q)
        return jnp.where(q <= 0.5, below >= q * (1.0 - slack), upper)

    def halve(state):
        low, high = state
        middle = _halfway(low, high)
        enough = jax.lax.stop_gradient(reached(jnp.floor(_unordered(middle))))
        return jnp.where(enough, low, middle + 1), jnp.where(enough, middle, high)

    with unchecked():
        start = (_ordered(lower), _ordered(upper))
        _, found = jax.lax.while_loop(lambda s: jnp.any(s[0] < s[1]), halve, start)
    integer = jnp.floor(_unordered(found))
    integer = jnp.where(integer == 0.0, 0.0, integer)  # not -0
    return jnp.where(jnp.isnan(q), jnp.nan, integer)


def _integers(dtype) -> jnp.dtype:
    return jnp.dtype(f"int{jnp.finfo(dtype).bits}")


def _ordered(x: Array) -> Array:
    """Integers in the order of the floats that they stand for, neighbours for neighbours."""
    x = jnp.where(x == 0.0, 0.0, x)  # one zero, not two
    bits = jax.lax.bitcast_convert_type(x, _integers(x.dtype))
    return jnp.where(bits < 0, jnp.iinfo(bits.dtype).min - bits, bits)


def _unordered(order: Array) -> Array:
    bits = jnp.where(order < 0, jnp.iinfo(order.dtype).min - order, order)
    return jax.lax.bitcast_convert_type(bits, jnp.dtype(f"float{jnp.iinfo(order.dtype).bits}"))


def _halfway(low: Array, high: Array) -> Array:
    """Half of the sum, rounded down, without overflow."""
    return (low & high) + ((low ^ high) >> 1)
