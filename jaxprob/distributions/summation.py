"""Expectations over counts: E g(K) = sum_k p(k) g(k), for entropies and divergences.

Up to 256 counts are added one by one. Beyond them the terms are smooth, and the sum is the integral
between half-integers, by Gauss-Legendre panels over the bulk of the distribution (both evenly and
geometrically spaced, for narrow peaks and for heavy tails), with two corrections:

    sum_(k >= a) f(k) = integral from a - 1/2 of f + f'(a - 1/2) / 24 - 7 f'''(a - 1/2) / 5760 + ...

Twin: `torch_ref/distributions/summation.py`. Source: DLMF 2.10.1 (Euler-Maclaurin).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.special import is_double
from jaxprob.distributions.univariate import Univariate
from jaxprob.distributions.validation import align, unchecked
from jaxprob.types import Array

__all__ = ["entropy_of_counts", "expected_over_counts", "relative_entropy_of_counts"]

SINGLE = 256  # counts that are added one by one
PANELS = 32
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)


def expected_over_counts(family: Univariate, values: Callable[[Array], Array]) -> Array:
    """Returns E g(K) `[*batch]`.

    Args:
      family: A distribution over integers whose density formula holds between them too.
      values: g, from counts `[*batch]` to numbers `[*batch]`; smooth beyond the first 256 counts.
    """
    parameters = family._parameters()

    def add(totals: tuple[Array, Array], node: tuple[Array, Array]) -> tuple[Any, None]:
        k, weight = node
        used = weight != 0.0
        mass = jnp.where(used, weight * jnp.exp(family._density_at(k, *parameters)), 0.0)
        return (totals[0] + mass, totals[1] + mass * jnp.where(used, values(k), 0.0)), None

    with unchecked():
        nodes = jax.lax.stop_gradient(_nodes(family))
        zero = jnp.zeros_like(nodes[0][0])
        # Of counts that are rounded the masses sum to nearly one; the quotient is an average still.
        mass, total = jax.lax.scan(add, (zero, zero), nodes)[0]
        return total / mass


def entropy_of_counts(family: Univariate) -> Array:
    """Returns -sum_k p(k) log p(k) `[*batch]` in nats."""
    return expected_over_counts(family, lambda k: -family._density_at(k, *family._parameters()))


def relative_entropy_of_counts(p: Univariate, q: Univariate, unless: Array | bool = False) -> Array:
    """Returns KL(p || q) `[*batch]` in nats, where the support of q holds that of p.

    Args:
      p: Distribution of the counts.
      q: Distribution to compare with.
      unless: Where nobody needs it; if that is everywhere, 0 is returned and nothing is computed.
    """
    shape = jnp.broadcast_shapes(p.batch_shape, q.batch_shape)
    p, q = (
        jax.tree.map(lambda leaf: jnp.broadcast_to(align(leaf, len(shape)), shape), d)
        for d in (p, q)
    )

    def by_sum() -> Array:
        return expected_over_counts(
            p, lambda k: p._density_at(k, *p._parameters()) - q._density_at(k, *q._parameters())
        )

    zeros = jnp.zeros(shape, jax.eval_shape(by_sum).dtype)
    return jax.lax.cond(jnp.all(unless), lambda: zeros, by_sum)


def _nodes(family: Univariate) -> tuple[Array, Array]:
    """Points and weights `[N, *batch]` of the sum."""
    dtype, shape = family._float_dtype(), family.batch_shape
    rare = jnp.full(shape, 1e-30 if is_double(jnp.zeros((), dtype)) else 1e-12, dtype)
    first = family._invert(rare, 1.0 - rare).astype(dtype)[None]
    last = family._invert(1.0 - rare, rare).astype(dtype)[None]
    column = (-1,) + (1,) * len(shape)

    steps = jnp.arange(SINGLE, dtype=dtype).reshape(column)
    single = jnp.minimum(first + steps, last)
    ones = jnp.where(first + steps <= last, 1.0, 0.0).astype(dtype)

    start, end = first + (SINGLE - 0.5), last + 0.5
    many = last >= first + SINGLE
    share = jnp.linspace(0.0, 1.0, PANELS + 1, dtype=dtype).reshape(column)
    width = jnp.where(many, end - start, 0.0)
    growth = jnp.log1p(width / (SINGLE - 0.5))
    even, geometric = start + width * share, first + (SINGLE - 0.5) * jnp.exp(growth * share)
    edges = jnp.clip(jnp.sort(jnp.concatenate([even, geometric]), axis=0), start, start + width)
    half = 0.5 * jnp.diff(edges, axis=0)
    middle = edges[:-1] + half
    points = [middle + half * float(node) for node in NODES]
    weights = [half * float(weight) for weight in WEIGHTS]

    # with d1 = f(a) - f(a - 1) and d3 its third difference, f' = d1 - d3 / 24 and f''' = d3
    one, three = jnp.where(many, 1.0 / 24.0, 0.0), jnp.where(many, -17.0 / 5760.0, 0.0)
    ends = (three, one - 3.0 * three, 3.0 * three - one, -three)
    points = [single, *points, *(first + (SINGLE + step) for step in (1, 0, -1, -2))]
    weights = [ones, *weights, *(weight.astype(dtype) for weight in ends)]
    inside = jnp.clip(jnp.concatenate(points), first, last)
    return inside, jnp.concatenate(weights)
