"""Quantiles by root finding, for distributions that have a cdf but no inverse of it.

`monotone_quantile` bisects a bracket down to neighbouring floats, on the lower tail P(X <= x) where
q <= 1/2 and on the upper tail P(X > x) above, so that neither tail loses digits. One last Newton
step from the (constant) root carries the derivatives of the implicit function theorem:

    F(x(q, theta), theta) = q   =>   dx = (dq - dF/dtheta . dtheta) / p(x)

It compiles, batches and differentiates (once) like any other expression.

Twin: `torch_ref/distributions/quantiles.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxprob.types import Array

__all__ = ["monotone_quantile"]


def monotone_quantile(
    q: Array,
    cdf: Callable[[Array], Array],
    survival_function: Callable[[Array], Array],
    density: Callable[[Array], Array],
    lower: Array,
    upper: Array,
) -> Array:
    """Solves cdf(x) = q for x inside a bracket, element by element.

    Args:
      q: Probabilities, of the shape of the result.
      cdf: x -> P(X <= x), elementwise over that shape.
      survival_function: x -> P(X > x).
      density: x -> p(x), the derivative of the cdf.
      lower: A point at or below the root, of the same shape.
      upper: A point at or above the root, of the same shape.

    Returns:
      The root, to the last few bits of the dtype, with first derivatives towards `q` and whatever
      `cdf` and `survival_function` close over.
    """
    low_tail = q <= 0.5
    # At q = 0 or 1 the bracket is infinite and is the answer; a finite stand-in keeps NaN out of
    # the search and of the gradient.
    bounded = jnp.isfinite(lower) & jnp.isfinite(upper)
    end = lower
    lower, upper = jnp.where(bounded, lower, 0.0), jnp.where(bounded, upper, 0.0)

    def excess(x: Array) -> Array:  # rises through 0 at the root; 1 - q is exact for q >= 1/2
        return jnp.where(low_tail, cdf(x) - q, (1.0 - q) - survival_function(x))

    # The ends become neighbouring floats long before the cap, unless the root is 0; there the cap
    # leaves an error of 2^-40 ulp of the first bracket.
    start = jax.lax.stop_gradient((jnp.asarray(0), lower, upper))
    max_steps = jnp.finfo(q.dtype).nmant + 40

    def unfinished(state):
        step, low, high = state
        gap = high - low
        resolution = jnp.finfo(q.dtype).eps * jnp.maximum(jnp.abs(low), jnp.abs(high))
        return (step < max_steps) & jnp.any(gap > resolution)

    def halve(state):
        step, low, high = state
        middle = low + 0.5 * (high - low)
        below = jax.lax.stop_gradient(excess(middle)) < 0
        return step + 1, jnp.where(below, middle, low), jnp.where(below, high, middle)

    _, low, high = jax.lax.while_loop(unfinished, halve, start)
    root = jax.lax.stop_gradient(low + 0.5 * (high - low))
    slope = jax.lax.stop_gradient(density(root))
    # In a gap of a mixture the density underflows to 0: the root is then any point of the gap.
    usable = slope > jnp.finfo(q.dtype).tiny
    step = jnp.where(usable, excess(root) / jnp.where(usable, slope, 1.0), 0.0)
    # Only derivatives are wanted from the step where rounding would make it leave the bracket.
    inside = jnp.abs(jax.lax.stop_gradient(step)) <= high - low
    value = root - jnp.where(inside, step, step - jax.lax.stop_gradient(step))
    return jnp.where(bounded, value, jax.lax.stop_gradient(end))
