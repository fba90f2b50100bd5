"""The four energies over the plane that flows are tried on, and their exact normalisers.

    w1 = sin(2 pi x1 / 4),   w2 = 3 exp(-((x1 - 1) / 0.6)^2 / 2),   w3 = 3 sigmoid((x1 - 1) / 0.3)

    u1   ((|x| - 2) / 0.4)^2 / 2 - log(e^{-((x1 - 2) / 0.6)^2 / 2} + e^{-((x1 + 2) / 0.6)^2 / 2})
    u2   ((x2 - w1) / 0.4)^2 / 2
    u3   -log(e^{-((x2 - w1) / 0.35)^2 / 2} + e^{-((x2 - w1 + w2) / 0.35)^2 / 2})
    u4   -log(e^{-((x2 - w1) / 0.4)^2 / 2} + e^{-((x2 - w1 + w3) / 0.35)^2 / 2})

u2, u3 and u4 repeat along x1 for ever: e^{-u} has no finite integral. `confined` adds walls.

Twin: `torch_ref/flows/energies.py`. Source: Rezende & Mohamed, "Variational inference with
normalizing flows" (2015), table 1.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxprob.types import AnyArray, Array

__all__ = ["confined", "log_normalizer", "u1", "u2", "u3", "u4"]

Energy = Callable[[Array], Array]


def u1(x: Float[AnyArray, "*B 2"]) -> Float[Array, "*B"]:
    """Two bumps on a ring; at its centre, where there is no slope, it is given as 0."""
    square = jnp.sum(x**2, axis=-1)
    radius = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    ring = 0.5 * ((radius - 2.0) / 0.4) ** 2
    return ring - jnp.logaddexp(_bell(x[..., 0] - 2.0, 0.6), _bell(x[..., 0] + 2.0, 0.6))


def u2(x: Float[AnyArray, "*B 2"]) -> Float[Array, "*B"]:
    """A band along a sine."""
    return -_bell(_from_wave(x), 0.4)


def u3(x: Float[AnyArray, "*B 2"]) -> Float[Array, "*B"]:
    """The band, which parts and joins again."""
    w2 = 3.0 * jnp.exp(_bell(x[..., 0] - 1.0, 0.6))
    return -jnp.logaddexp(_bell(_from_wave(x), 0.35), _bell(_from_wave(x) + w2, 0.35))


def u4(x: Float[AnyArray, "*B 2"]) -> Float[Array, "*B"]:
    """The band, which parts for good."""
    w3 = 3.0 * jax.nn.sigmoid((x[..., 0] - 1.0) / 0.3)
    return -jnp.logaddexp(_bell(_from_wave(x), 0.4), _bell(_from_wave(x) + w3, 0.35))


def confined(energy: Energy, half_width: float = 4.0, softness: float = 0.2) -> Energy:
    """Returns the log-density -U(x), up to a constant, between walls.

    Args:
      energy: x `[*B, D]` -> U `[*B]`.
      half_width: Within [-half_width, half_width]^D nothing changes.
      softness: Beyond, each element adds the energy of a normal tail of this standard deviation.

    Returns:
      x `[*B, D]` -> log p~ `[*B]`.
    """

    def log_density(x: Array) -> Array:
        beyond = jax.nn.relu(jnp.abs(x) - half_width) / softness
        return -energy(x) - 0.5 * jnp.sum(beyond**2, axis=-1)

    return log_density


def log_normalizer(log_density: Energy, half_width: float = 6.0, points: int = 1000) -> Array:
    """Returns log Z of a log-density over the plane, by the midpoint rule on a square.

    Args:
      log_density: x `[N, 2]` -> log p~ `[N]`, negligible outside the square.
      half_width: Half the width of the square.
      points: Points along each side; for densities that are smooth and vanish at the edge the error
        falls faster than any power of their distance.

    Returns:
      log of the integral of e^{log p~}, in nats, shape `[]`.
    """
    step = 2.0 * half_width / points
    axis = -half_width + step * (jnp.arange(points) + 0.5)
    line = jax.vmap(lambda a: jax.nn.logsumexp(log_density(_column(a, axis))))
    return jax.nn.logsumexp(line(axis)) + 2.0 * math.log(step)


def _column(first: Array, second: Array) -> Array:
    return jnp.stack([jnp.full_like(second, first), second], axis=-1)


def _from_wave(x: AnyArray) -> AnyArray:
    """x2 - w1."""
    return x[..., 1] - jnp.sin(0.5 * math.pi * x[..., 0])


def _bell(x: AnyArray, width: float) -> AnyArray:
    return -0.5 * (x / width) ** 2
