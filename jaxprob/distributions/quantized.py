"""A continuous distribution rounded up to integers: Y = ceil(X), kept within [low, high].

    p(k) = F(k) - F(k - 1),   p(low) = F(low),   p(high) = 1 - F(high - 1)

The difference is taken in the smaller of the two tails, so that it keeps its digits far out; where
the bin is so narrow that both tails agree in most digits, the density is integrated over it. The
moments are sums over the integers, E Y = low + sum_{k < high} P(Y > k), one at a time.

Twin: `torch_ref/distributions/quantized.py`. Source: Salimans et al., "PixelCNN++" (2017), eq. 2.
"""

import math
from collections.abc import Callable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions import constraints
from jaxprob.distributions.base import converted
from jaxprob.distributions.special import is_double, log1mexp, log_sum_weighted
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.univariate import Univariate
from jaxprob.distributions.validation import align
from jaxprob.types import Array, Key, Numbers

__all__ = ["Quantized"]


class Quantized(Univariate, distrax.Quantized):
    """Integers from a continuous distribution.

    From distrax: `prob`.

    Args:
      distribution: A continuous distribution over numbers, with a cdf; distrax's or TFP's too.
      low: Smallest integer, which takes all mass below it; None for no end.
      high: Largest integer, which takes all mass above it; None for no end. Where both are given as
        Python numbers there are a mean and a variance.
    """

    def __init__(
        self,
        distribution: Any,
        low: Numbers | None = None,
        high: Numbers | None = None,
    ):
        distribution = converted(distribution)
        if not isinstance(distribution, Univariate) or distribution.support.discrete:
            raise ValueError(
                "Quantized: distribution must be a continuous distribution over numbers, such as "
                f"Normal or Logistic; got {distribution!r}."
            )
        dtype = distribution._float_dtype()
        ends = (-jnp.inf if low is None else jnp.ceil(jnp.asarray(low, dtype)),
                jnp.inf if high is None else jnp.floor(jnp.asarray(high, dtype)))  # fmt: skip
        ends = [jnp.asarray(end, dtype) for end in ends]
        plain = isinstance(low, float | int) and isinstance(high, float | int)
        finite = plain and math.isfinite(low) and math.isfinite(high)
        self._count = int(math.floor(high) - math.ceil(low)) + 1 if finite else None
        shape = np.broadcast_shapes(distribution.batch_shape, *(end.shape for end in ends))
        self._low, self._high = (jnp.broadcast_to(end, shape) for end in ends)
        self._distribution = jax.tree.map(
            lambda leaf: jnp.broadcast_to(align(leaf, len(shape)), shape), distribution
        )

    @property
    def distribution(self) -> Univariate:
        """The continuous distribution."""
        return self._distribution

    @property
    def low(self) -> Array:
        """Smallest integer `[*batch]`, -inf for no end."""
        return self._low

    @property
    def high(self) -> Array:
        """Largest integer `[*batch]`, inf for no end."""
        return self._high

    @property
    def support(self) -> constraints.Constraint:
        """The integers from low to high."""
        return constraints.integer_interval(self._low, self._high)._replace(
            name="an integer between low and high", fix="Round the values and clip them."
        )

    def _parameters(self) -> tuple[Array, ...]:
        return (self._low, self._high, *self._distribution._parameters())

    def _bounds(self, *parameters: Array) -> tuple[Any, Any]:
        low, high, *base = parameters
        first, last = self._distribution._bounds(*base)
        return jnp.maximum(low, jnp.ceil(first)), jnp.minimum(high, jnp.ceil(last))

    def _inner_point(self, *parameters: Array) -> Any:
        low, high = parameters[:2]
        return jnp.where(low > -jnp.inf, low, jnp.where(high < jnp.inf, high, 0.0))

    def _base_tails(self, x: Array, base: tuple[Array, ...]) -> tuple[Array, Array]:
        """Log-probabilities of both tails of the continuous distribution at x."""
        first, last = self._distribution._bounds(*base)
        below, above = x <= first, x >= last
        inner = jnp.where(below | above, self._distribution._inner_point(*base), x)
        tails = self._distribution._tails(inner, *base)
        lower, upper = tails.log_lower(), tails.log_upper()
        lower = jnp.where(below, -jnp.inf, jnp.where(above, 0.0, lower))
        return lower, jnp.where(below, 0.0, jnp.where(above, -jnp.inf, upper))

    def _log_density(self, x: Array, low: Array, high: Array, *base: Array) -> Array:
        x = jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, low.shape))
        lower, upper = self._base_tails(x, base)
        lower_before, upper_before = self._base_tails(x - 1.0, base)
        lower, upper = jnp.where(x >= high, 0.0, lower), jnp.where(x >= high, -jnp.inf, upper)
        lower_before = jnp.where(x <= low, -jnp.inf, lower_before)
        upper_before = jnp.where(x <= low, 0.0, upper_before)
        left = lower < upper_before  # take the difference where the numbers are small
        large = jnp.where(left, lower, upper_before)
        small = jnp.where(left, lower_before, upper)
        empty = (large == -jnp.inf) | (small > large)
        gap = jnp.where(empty | (small == -jnp.inf), -1.0, small - large)
        share = jnp.where(small == -jnp.inf, 0.0, log1mexp(jnp.where(gap < 0.0, gap, -1.0)))
        narrow = ~empty & (gap > (-2e-3 if is_double(x) else -0.03))
        difference = jnp.where(empty, -jnp.inf, large + share)
        return jnp.where(narrow, self._log_integral(narrow, x, base), difference)

    def _log_integral(self, narrow: Array, x: Array, base: tuple[Array, ...]) -> Array:
        """Log of the density's integral from x - 1 to x, by two nodes on either side of its kink.

        Where both tails hardly change from x - 1 to x their difference has no digits left, and the
        density is smooth enough for Gauss-Legendre's rule.
        """
        kink = self._distribution._kink(*base)
        split = 1.0 if kink is None else jnp.clip(kink - (x - 1.0), 0.0, 1.0)
        logs, weights = [], []
        for start, width in ((0.0, split), (split, 1.0 - split))[: 1 if kink is None else 2]:
            for node in (0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)):
                # from x down, since x - 1 is rounded where x is large
                at = jnp.where(narrow, x - (1.0 - start - width * node), 0.0)
                at = jnp.where(narrow, at, self._distribution._inner_point(*base))
                logs.append(self._distribution._density_at(at, *base))
                weights.append(jnp.broadcast_to(0.5 * width, x.shape).astype(x.dtype))
        return log_sum_weighted(jnp.stack(logs, axis=-1), jnp.stack(weights, axis=-1))

    def _tails(self, x: Array, low: Array, high: Array, *base: Array) -> Tails:
        del low, high
        lower, upper = self._base_tails(x, base)
        is_lower = lower < upper
        return Tails(jnp.where(is_lower, lower, upper), is_lower)

    def _sample_n(self, key: Key, n: int) -> Array:
        draws = jnp.ceil(self._distribution._sample_n(key, n))
        return jnp.clip(draws, self._low[None], self._high[None])

    def mean(self) -> Array:
        """Returns the mean, where both ends are Python numbers; a sum over all integers."""

        def above(k: Array) -> Array:
            return jnp.exp(self._base_tails(k, self._distribution._parameters())[1])

        return self._low + self._sum("mean", above, last=False)

    def variance(self) -> Array:
        """Returns the variance, where both ends are Python numbers; a sum over all integers."""
        mean = self.mean()

        def spread(k: Array) -> Array:
            return jnp.exp(self._log_density(k, *self._parameters())) * (k - mean) ** 2

        return self._sum("variance", spread)

    def _sum(self, name: str, term: Callable[[Array], Array], last: bool = True) -> Array:
        """Sum of terms `[*batch]` over the integers, without or with the largest one."""
        if self._count is None:
            raise NotImplementedError(
                f"Quantized has no {name} in closed form without ends; give low and high as Python "
                "numbers, or average draws."
            )
        steps = jnp.arange(self._count - 1 + last, dtype=self._low.dtype)
        zero = jnp.zeros_like(self._low)
        return jax.lax.scan(lambda total, i: (total + term(self._low + i), None), zero, steps)[0]

    def _shown_fields(self) -> dict[str, Any]:
        return {"distribution": self._distribution, "low": self._low, "high": self._high}
