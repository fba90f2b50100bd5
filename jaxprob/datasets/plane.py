"""Points in the plane, generated from a density that is known.

angle ~ U(0, pi),   arc 0: (cos, sin),   arc 1: (1 - cos, 1/2 - sin),   x = arc + noise eps
p(x) = (1 / 2 pi) sum_arc int_0^pi N(x; arc(angle), noise^2 I) d angle
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.requirements import require_count
from jaxprob.types import AnyArray, Array, Key

__all__ = ["two_moons", "two_moons_log_prob"]


def two_moons(key: Key, num_rows: int = 2000, noise: float = 0.1) -> np.ndarray:
    """Draws from two interleaving half circles with normal noise.

    Args:
      key: Key of the draw.
      num_rows: Number of points N.
      noise: Standard deviation of the noise in each direction (> 0).

    Returns:
      Points `[N, 2]`, float32, the two arcs mixed.
    """
    require_count("two_moons", num_rows=num_rows)
    arc_key, angle_key, noise_key = jax.random.split(key, 3)
    second = jax.random.bernoulli(arc_key, 0.5, (num_rows, 1))
    angle = jax.random.uniform(angle_key, (num_rows,), jnp.float32, 0.0, jnp.pi)
    first, other = _arcs(angle)
    eps = jax.random.normal(noise_key, (num_rows, 2), jnp.float32)
    return np.asarray(jnp.where(second, other, first) + noise * eps)


def two_moons_log_prob(x: AnyArray, noise: float = 0.1, points: int = 400) -> Array:
    """Returns the exact log-density of `two_moons` in nats.

    Args:
      x: Points `[N, 2]`.
      noise: Standard deviation of the noise.
      points: Angles of the midpoint rule, whose distance on the arc should be below `noise`.

    Returns:
      log p `[N]`.
    """
    require_count("two_moons_log_prob", points=points)
    x = jnp.asarray(x)
    angle = jnp.pi * (jnp.arange(points, dtype=x.dtype) + 0.5) / points
    centres = jnp.concatenate(_arcs(angle))
    square = jnp.sum(((x[:, None] - centres[None]) / noise) ** 2, axis=-1)
    normal = -0.5 * square - jnp.log(2.0 * jnp.pi * noise**2)
    return jax.nn.logsumexp(normal, axis=-1) - jnp.log(2.0 * points)


def _arcs(angle: Array) -> tuple[Array, Array]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([cos, sin], axis=-1), jnp.stack([1.0 - cos, 0.5 - sin], axis=-1)
