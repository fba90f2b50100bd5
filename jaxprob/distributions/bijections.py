"""Bijections from unconstrained numbers to constrained values, with log-determinants.

    Exp             y = e^x                                    log|J| = x
    Sigmoid         y = low + (high - low) s(x)                log|J| = log(high - low) + log s s'
    Ordered         y_1 = x_1, y_i = y_(i-1) + e^(x_i)         log|J| = sum_(i>1) x_i
    StickBreaking   z_i = s(x_i - log(K - i)), y_i = z_i prod_(j<i) (1 - z_j)
    LowerCholesky   rows of the triangle, e^x on the diagonal  log|J| = sum of the diagonal's x
    PositiveDefinite  L L^T of the above                       plus D log 2 + sum_i (D - i) log L_ii

Each is a `distrax.Bijector`. Vectors of x map to matrices row by row: x_1 is L_11, then L_21, L_22.

Twin: `torch_ref/distributions/bijections.py`. Source: Stan Reference Manual, ch. "Constraint
transforms".
"""

import math

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxprob.distributions.special import log_sigmoid
from jaxprob.types import Array, ArrayLike

__all__ = [
    "Exp",
    "Identity",
    "LowerCholesky",
    "Ordered",
    "PositiveDefinite",
    "Sigmoid",
    "StickBreaking",
]


class _Bijection(distrax.Bijector):
    """Bijectors of one class with equal fields are the same map."""

    def same_as(self, other: distrax.Bijector) -> bool:
        """Whether `other` is certainly the same map."""
        return type(other) is type(self) and not jax.tree.leaves(self.__dict__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Identity(_Bijection):
    """y = x."""

    def __init__(self):
        super().__init__(event_ndims_in=0, is_constant_jacobian=True)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |dy / dx|."""
        return x, jnp.zeros_like(x)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |dx / dy|."""
        return y, jnp.zeros_like(y)


class Exp(_Bijection):
    """y = exp(x), to the positive numbers."""

    def __init__(self):
        super().__init__(event_ndims_in=0)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |dy / dx|."""
        return jnp.exp(x), x

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |dx / dy|."""
        x = jnp.log(y)
        return x, -x


class Sigmoid(_Bijection):
    """y = low + (high - low) sigmoid(x), to an interval.

    Args:
      low: Lower end.
      high: Upper end, above `low`.
    """

    def __init__(self, low: ArrayLike = 0.0, high: ArrayLike = 1.0):
        super().__init__(event_ndims_in=0)
        self._low, self._high = jnp.asarray(low), jnp.asarray(high)

    def same_as(self, other: distrax.Bijector) -> bool:
        """Whether `other` is certainly the same map."""
        return other is self

    def _ends(self, ndim: int) -> tuple[Array, Array]:
        low, high = self._low, self._high
        return (
            low.reshape((1,) * (ndim - low.ndim) + low.shape),
            high.reshape((1,) * (ndim - high.ndim) + high.shape),
        )

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |dy / dx|."""
        low, high = self._ends(x.ndim)
        low, high = low.astype(x.dtype), high.astype(x.dtype)
        log_det = jnp.log(high - low) + log_sigmoid(x) + log_sigmoid(-x)
        return low + (high - low) * jax.nn.sigmoid(x), log_det

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |dx / dy|."""
        low, high = self._ends(y.ndim)
        low, high = low.astype(y.dtype), high.astype(y.dtype)
        x = jnp.log(y - low) - jnp.log(high - y)
        return x, jnp.log(high - low) - jnp.log(y - low) - jnp.log(high - y)


class Ordered(_Bijection):
    """Strictly increasing vectors from free ones."""

    def __init__(self):
        super().__init__(event_ndims_in=1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |det dy / dx|."""
        steps = jnp.concatenate([x[..., :1], jnp.exp(x[..., 1:])], axis=-1)
        return jnp.cumsum(steps, axis=-1), jnp.sum(x[..., 1:], axis=-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |det dx / dy|."""
        logs = jnp.log(y[..., 1:] - y[..., :-1])
        return jnp.concatenate([y[..., :1], logs], axis=-1), -jnp.sum(logs, axis=-1)


class StickBreaking(_Bijection):
    """K probabilities from K - 1 numbers; zeros give equal probabilities."""

    def __init__(self):
        super().__init__(event_ndims_in=1)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |det dy / dx| (of its first K - 1 entries)."""
        shifted = x - self._offset(x)
        log_taken, log_left = log_sigmoid(shifted), log_sigmoid(-shifted)
        remaining = jnp.cumsum(log_left, axis=-1)
        before = jnp.concatenate([jnp.zeros_like(remaining[..., :1]), remaining], axis=-1)
        y = jnp.exp(before.at[..., :-1].add(log_taken))
        return y, jnp.sum(log_taken + remaining, axis=-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |det dx / dy|."""
        # What is left after stick i is the sum of the later ones; no subtraction from 1.
        left = jnp.flip(jnp.cumsum(jnp.flip(y[..., 1:], -1), axis=-1), -1)
        shifted = jnp.log(y[..., :-1]) - jnp.log(left)
        x = shifted + self._offset(shifted)
        return x, -self.forward_and_log_det(x)[1]

    @staticmethod
    def _offset(x: Array) -> Array:
        count = x.shape[-1]
        offset = jnp.asarray(np.log(np.arange(count, 0, -1)), x.dtype)
        return offset.reshape((1,) * (x.ndim - 1) + (count,))


class LowerCholesky(_Bijection):
    """Lower triangular D x D matrices with a positive diagonal from D (D + 1) / 2 numbers."""

    def __init__(self):
        super().__init__(event_ndims_in=1, event_ndims_out=2)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |det dy / dx|."""
        size = _triangle_size(x.shape[-1])
        rows, columns = np.tril_indices(size)
        diagonal = jnp.asarray(rows == columns).reshape((1,) * (x.ndim - 1) + (-1,))
        entries = jnp.where(diagonal, jnp.exp(jnp.where(diagonal, x, 0.0)), x)
        y = jnp.zeros((*x.shape[:-1], size, size), x.dtype).at[..., rows, columns].set(entries)
        return y, jnp.sum(jnp.where(diagonal, x, 0.0), axis=-1)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |det dx / dy|."""
        rows, columns = np.tril_indices(y.shape[-1])
        entries = y[..., rows, columns]
        diagonal = jnp.asarray(rows == columns).reshape((1,) * (entries.ndim - 1) + (-1,))
        x = jnp.where(diagonal, jnp.log(jnp.where(diagonal, entries, 1.0)), entries)
        return x, -jnp.sum(jnp.where(diagonal, x, 0.0), axis=-1)


class PositiveDefinite(_Bijection):
    """Symmetric positive definite D x D matrices from D (D + 1) / 2 numbers."""

    def __init__(self):
        super().__init__(event_ndims_in=1, event_ndims_out=2)

    def forward_and_log_det(self, x: Array) -> tuple[Array, Array]:
        """Returns y and log |det dy / dx| (of its lower triangle)."""
        factor, log_det = LowerCholesky().forward_and_log_det(x)
        return factor @ jnp.swapaxes(factor, -1, -2), log_det + self._of_square(factor)

    def inverse_and_log_det(self, y: Array) -> tuple[Array, Array]:
        """Returns x and log |det dx / dy|."""
        factor = jnp.linalg.cholesky(y)
        x, log_det = LowerCholesky().inverse_and_log_det(factor)
        return x, log_det - self._of_square(factor)

    @staticmethod
    def _of_square(factor: Array) -> Array:
        size = factor.shape[-1]
        logs = jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1))
        powers = jnp.asarray(np.arange(size, 0, -1), factor.dtype)
        return size * math.log(2) + jnp.sum(
            logs * powers.reshape((1,) * (logs.ndim - 1) + (size,)), axis=-1
        )


def _triangle_size(count: int) -> int:
    size = (math.isqrt(8 * count + 1) - 1) // 2
    if size * (size + 1) // 2 != count:
        raise ValueError(
            f"LowerCholesky: a triangle has 1, 3, 6, 10, ... entries; got a vector of {count}."
        )
    return size
