"""Mixtures of distributions over the circle.

    z = sum_k w_k R_k exp(i mu_k),   mean direction arg z,   circular variance 1 - |z|

with the mean directions mu_k and resultants R_k = 1 - variance_k of the components. As
|z| = sum_k w_k R_k cos(mu_k - arg z), the variance is sum_k w_k (variance_k + between_k) with
between_k = 2 R_k sin^2((mu_k - arg z) / 2). The cdf counts from the point opposite to the mean
direction; intervals are arcs around it, whose ends may pass pi.

Twin: `torch_ref/distributions/circular.py`. Source: Mardia & Jupp, "Directional Statistics" (2000),
sections 2.2-2.3.
"""

import math

import jax.numpy as jnp

from jaxprob.distributions.base import Distribution
from jaxprob.distributions.validation import align
from jaxprob.types import Array

__all__ = ["between_directions", "from_cut", "mean_direction", "nearest_turn"]


def nearest_turn(angle: Array, centre: Array) -> Array:
    """Returns `angle` plus the whole turns that bring it within pi of `centre`, in radians."""
    return angle + 2 * math.pi * jnp.round((centre - angle) / (2 * math.pi))


def mean_direction(directions: Array, variances: Array, weights: Array, axis: int = -1) -> Array:
    """Returns the mean direction of a mixture, within (-pi, pi].

    Args:
      directions: Mean directions of the components `[..., K]`, in radians.
      variances: Their circular variances, of the same shape.
      weights: Their weights, which broadcast.
      axis: The components' axis.
    """
    length = weights * (1.0 - variances)
    x = jnp.sum(length * jnp.cos(directions), axis=axis)
    y = jnp.sum(length * jnp.sin(directions), axis=axis)
    nowhere = (x == 0.0) & (y == 0.0)  # any direction is a mean; atan2 has no gradient there
    return jnp.arctan2(y, jnp.where(nowhere, 1.0, x))


def between_directions(directions: Array, variances: Array, mean: Array) -> Array:
    """Returns the variance of each component's direction about the mean, like `directions`."""
    return 2.0 * (1.0 - variances) * jnp.sin(0.5 * (directions - mean)) ** 2


def from_cut(components: Distribution, value: Array, cut: Array) -> tuple[Array, Array]:
    """Returns the probabilities of each component between `cut` and `value`, and of the rest.

    Args:
      components: Distributions over the circle, batch `[..., K]`.
      value: Angles `[..., K]` between cut and cut + 2 pi.
      cut: Where counting starts, `[..., K]`.
    """
    turn = 2 * math.pi
    middle = align(components.mean(), value.ndim)

    def wound(x: Array) -> tuple[Array, Array, Array]:
        # whole turns from the middle, and the two tails within the turn
        turns = jnp.floor((x - middle + math.pi) / turn)
        inner = x - turns * turn
        return turns, components.cdf(inner), components.survival_function(inner)

    start, end = wound(cut), wound(value)
    whole = end[0] - start[0]
    # in one turn: F(x) - F(cut); in the next: S(cut) + F(x)
    inside = jnp.where(whole > 0.0, start[2] + end[1], end[1] - start[1])
    outside = jnp.where(whole > 0.0, start[1] - end[1], start[1] + end[2])
    return jnp.clip(inside, 0.0, 1.0), jnp.clip(outside, 0.0, 1.0)
