"""The multivariate normal distribution with a full covariance, held as its Cholesky factor.

    Sigma = L L^T,   log p(x) = -|L^-1 (x - loc)|^2 / 2 - sum_i log L_ii - D log(2 pi) / 2

    KL(p || q) = (|L_q^-1 L_p|_F^2 + |L_q^-1 (loc_p - loc_q)|^2 - D) / 2
                 + sum_i log L_q,ii - sum_i log L_p,ii

This is our own class rather than distrax's: `distrax.MultivariateNormalTri` caches its batch shape
and comes out of `vmap` with a wrong one (distrax issue 276).

Twin: `torch_ref/distributions/multivariate_normal.py`. Source: Murphy, "Probabilistic Machine
Learning: Advanced Topics" (2023), section 5.1.2 for the KL.
"""

import math

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from tensorflow_probability.substrates.jax.distributions import RegisterKL

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.gradients import normal_noise, with_gradients
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.validation import align, as_parameters, check_values, shape_of
from jaxprob.types import Array, Key, Numbers

__all__ = ["MultivariateNormal"]

# Up to this size substitution is written out: a batch of small systems then solves ten times as
# fast as by one call of the solver for each.
UNROLLED = 16


class MultivariateNormal(Distribution):
    """Normal distribution over vectors, with correlations.

    Args:
      loc: Mean `[*batch, D]`.
      scale_tril: Lower Cholesky factor of the covariance `[*batch, D, D]`.
      covariance: The covariance itself, in its place.
      precision: The inverse of the covariance, in its place.

    Raises:
      ValueError: None of the three or more than one, a factor that is not lower triangular with a
        positive diagonal, a matrix that is not positive definite, or shapes that do not fit.
    """

    arg_constraints = {"loc": constraints.real_vector, "scale_tril": constraints.lower_cholesky}
    reparameterized = True

    def __init__(
        self,
        loc: Numbers,
        scale_tril: Numbers | None = None,
        *,
        covariance: Numbers | None = None,
        precision: Numbers | None = None,
    ):
        super().__init__()
        scale_tril = _factor(scale_tril, covariance, precision)
        size = shape_of("MultivariateNormal", "loc", loc)
        factor = shape_of("MultivariateNormal", "scale_tril", scale_tril)
        if len(size) < 1 or len(factor) < 2 or factor[-2:] != (size[-1], size[-1]):
            raise ValueError(
                f"MultivariateNormal: loc has shape {size} and scale_tril {factor}; expected "
                "[..., D] and [..., D, D] with the same D."
            )
        self._loc, self._scale_tril = as_parameters(
            "MultivariateNormal",
            self.arg_constraints,
            {"loc": 1, "scale_tril": 2},
            loc=loc,
            scale_tril=scale_tril,
        )

    @property
    def loc(self) -> Array:
        """Mean `[*batch, D]`."""
        return self._loc

    @property
    def scale_tril(self) -> Array:
        """Cholesky factor `[*batch, D, D]`."""
        return self._scale_tril

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(D,)`."""
        return self._loc.shape[-1:]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._loc.shape[:-1]

    @property
    def support(self):
        """Real vectors."""
        return constraints.real_vector

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self._loc, self.stddev())

    def _sample_n(self, key: Key, n: int) -> Array:
        eps = normal_noise(key, (n, *self._loc.shape), self._loc.dtype)
        return self._loc[None] + jnp.einsum("...ij,n...j->n...i", self._scale_tril, eps)

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]` in nats."""
        value = self._event(value)
        ndim = max(value.ndim, self._loc.ndim)
        centred = align(value, ndim) - align(self._loc, ndim)
        log_density = with_gradients(_log_density, _gradients, event_ndims=(1, 2))
        return log_density(centred, align(self._scale_tril, ndim + 1))

    def entropy(self) -> Array:
        """Returns D (1 + log 2 pi) / 2 + sum_i log L_ii, `[*batch]`."""
        size = self._loc.shape[-1]
        return 0.5 * size * (1.0 + math.log(2 * math.pi)) + self._half_log_det()

    def mean(self) -> Array:
        """Returns loc `[*batch, D]`."""
        return self._loc

    def mode(self) -> Array:
        """Returns loc `[*batch, D]`."""
        return self._loc

    def median(self) -> Array:
        """Returns loc `[*batch, D]`, the median of each marginal."""
        return self._loc

    def variance(self) -> Array:
        """Returns the diagonal of the covariance `[*batch, D]`."""
        return jnp.sum(self._scale_tril**2, axis=-1)

    def covariance(self) -> Array:
        """Returns L L^T `[*batch, D, D]`."""
        return self._scale_tril @ jnp.swapaxes(self._scale_tril, -1, -2)

    def _half_log_det(self) -> Array:
        return half_log_det(self._scale_tril)


def half_log_det(scale_tril: Array) -> Array:
    """Returns log det L `[*batch]`."""
    return jnp.sum(jnp.log(jnp.diagonal(scale_tril, axis1=-2, axis2=-1)), axis=-1)


def _factor(
    scale_tril: Numbers | None, covariance: Numbers | None, precision: Numbers | None
) -> Numbers:
    """The Cholesky factor of the covariance, from whichever of the three is given."""
    given = {"scale_tril": scale_tril, "covariance": covariance, "precision": precision}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        raise ValueError(
            "MultivariateNormal: give one of scale_tril, covariance and precision; got "
            f"{' and '.join(names) or 'none'}."
        )
    if scale_tril is not None:
        return scale_tril
    matrix = jnp.asarray(given[names[0]])
    matrix = matrix.astype(jnp.result_type(matrix, 1.0))
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(
            f"MultivariateNormal: {names[0]} has shape {matrix.shape}; expected [..., D, D]."
        )
    check_values("MultivariateNormal", names[0], matrix, constraints.positive_definite)
    if covariance is not None:
        return jnp.linalg.cholesky(matrix)
    # of the precision read backwards, the factor is an upper one of the inverse
    backwards = jnp.linalg.cholesky(matrix[..., ::-1, ::-1])[..., ::-1, ::-1]
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return solve_triangular(jnp.swapaxes(backwards, -1, -2), eye, lower=True)


def _log_density(centred: Array, scale_tril: Array) -> Array:
    z = solve_lower(scale_tril, centred[..., None])[..., 0]
    normaliser = half_log_det(scale_tril) + 0.5 * z.shape[-1] * math.log(2 * math.pi)
    return -0.5 * jnp.sum(z**2, axis=-1) - normaliser


def _gradients(centred: Array, scale_tril: Array) -> tuple[Array, Array]:
    """-L^-T z and tril(L^-T z z^T) - diag(1 / L_ii), with z = L^-1 (x - loc)."""
    z = solve_lower(scale_tril, centred[..., None])
    turned = jnp.swapaxes(scale_tril, -1, -2)[..., ::-1, ::-1]
    w = solve_lower(turned, z[..., ::-1, :])[..., ::-1, :]
    size = z.shape[-2]
    eye = jnp.eye(size, dtype=z.dtype).reshape((1,) * (scale_tril.ndim - 2) + (size, size))
    diagonal = jnp.diagonal(scale_tril, axis1=-2, axis2=-1)
    return -w[..., 0], jnp.tril(w * jnp.swapaxes(z, -1, -2)) - eye / diagonal[..., None, :]


def solve_lower(scale_tril: Array, right: Array) -> Array:
    """Solves L z = right for batched L `[*batch, D, D]` and right `[..., *batch, D, R]`."""
    batch = jnp.broadcast_shapes(scale_tril.shape[:-2], right.shape[:-2])
    lower = jnp.broadcast_to(scale_tril, batch + scale_tril.shape[-2:])
    right = jnp.broadcast_to(right, batch + right.shape[-2:])
    if lower.shape[-1] > UNROLLED:
        return solve_triangular(lower, right, lower=True)
    rows: list[Array] = []
    for i in range(lower.shape[-1]):
        row = right[..., i, :]
        for j in range(i):
            row = row - lower[..., i, j, None] * rows[j]
        rows.append(row / lower[..., i, i, None])
    return jnp.stack(rows, axis=-2)


@RegisterKL(MultivariateNormal, MultivariateNormal)
def _kl_divergence(p: MultivariateNormal, q: MultivariateNormal, *_, **__) -> Array:
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL(p || q): event shapes differ, p has {p.event_shape} and q has {q.event_shape}."
        )
    ndim = max(p.loc.ndim, q.loc.ndim)
    gap = align(p.loc, ndim) - align(q.loc, ndim)
    whitened = solve_lower(q.scale_tril, align(p.scale_tril, ndim + 1))
    shift = solve_lower(q.scale_tril, gap[..., None])[..., 0]
    squares = jnp.sum(whitened**2, axis=(-2, -1)) + jnp.sum(shift**2, axis=-1)
    log_ratio = align(q._half_log_det(), ndim - 1) - align(p._half_log_det(), ndim - 1)
    return 0.5 * (squares - p.event_shape[0]) + log_ratio
