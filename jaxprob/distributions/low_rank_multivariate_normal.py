"""The multivariate normal distribution with covariance W W^T + diag(d).

    log p(x) = -(x - loc)^T Sigma^-1 (x - loc) / 2 - log|Sigma| / 2 - D log(2 pi) / 2
    C = I + W^T diag(d)^-1 W        (capacitance, R x R)
    m = C^-1 W^T diag(d)^-1 (x - loc)    (posterior mean of the common factors)
    (x - loc)^T Sigma^-1 (x - loc) = |d^-1/2 (x - loc - W m)|^2 + |m|^2
    log|Sigma| = log|C| + sum log d

The sum of squares is Woodbury's identity without its difference of large numbers. As m minimises
it, an error of m enters in second order only.

Work grows with D R^2 instead of D^3.

Twin: `torch_ref/distributions/low_rank_multivariate_normal.py`. Source: Woodbury's identity and
the matrix determinant lemma (Petersen & Pedersen, "The Matrix Cookbook", 2012, 3.2.2 and 3.1).
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.gradients import normal_noise
from jaxprob.distributions.multivariate_normal import MultivariateNormal, solve_lower
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.univariate import parameter
from jaxprob.distributions.validation import align, as_parameters, shape_of
from jaxprob.types import Array, Key, Numbers

__all__ = ["LowRankMultivariateNormal"]


class LowRankMultivariateNormal(Distribution):
    """Normal distribution over vectors: R common factors and independent noise.

    Args:
      loc: Mean `[*batch, D]`.
      cov_factor: W `[*batch, D, R]`.
      cov_diag: Variances d of the independent part `[*batch, D]` (> 0).
    """

    arg_constraints = {
        "loc": constraints.real_vector,
        "cov_factor": constraints.real,
        "cov_diag": constraints.positive,
    }
    reparameterized = True

    def __init__(self, loc: Numbers, cov_factor: Numbers, cov_diag: Numbers):
        super().__init__()
        given = {"loc": loc, "cov_factor": cov_factor, "cov_diag": cov_diag}
        shapes = [shape_of("LowRankMultivariateNormal", *pair) for pair in given.items()]
        fits = len(shapes[0]) >= 1 and len(shapes[1]) >= 2 and len(shapes[2]) >= 1
        if not fits or not shapes[0][-1:] == shapes[1][-2:-1] == shapes[2][-1:]:
            raise ValueError(
                f"LowRankMultivariateNormal: loc has shape {shapes[0]}, cov_factor {shapes[1]} and "
                f"cov_diag {shapes[2]}; expected [..., D], [..., D, R] and [..., D] with one D."
            )
        self._loc, self._cov_factor, self._cov_diag = as_parameters(
            "LowRankMultivariateNormal",
            self.arg_constraints,
            {"loc": 1, "cov_factor": 2, "cov_diag": 1},
            loc=loc,
            cov_factor=cov_factor,
            cov_diag=cov_diag,
        )

    loc = parameter("loc", "Mean `[*batch, D]`.")
    cov_factor = parameter("cov_factor", "Factor W `[*batch, D, R]`.")
    cov_diag = parameter("cov_diag", "Variances of the independent part `[*batch, D]`.")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, `(D,)`."""
        return self._loc.shape[-1:]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch."""
        return self._loc.shape[:-1]

    @property
    def support(self) -> constraints.Constraint:
        """Real vectors."""
        return constraints.real_vector

    @property
    def scale_tril(self) -> Array:
        """Cholesky factor of the covariance `[*batch, D, D]`."""
        return jnp.linalg.cholesky(self.covariance())

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self._loc, self.stddev())

    def _capacitance_tril(self) -> Array:
        scaled = self._cov_factor / jnp.sqrt(self._cov_diag)[..., None]
        inner = jnp.swapaxes(scaled, -1, -2) @ scaled
        eye = jnp.eye(inner.shape[-1], dtype=inner.dtype)
        return jnp.linalg.cholesky(align(eye, inner.ndim) + inner)

    def _half_log_det(self) -> Array:
        diagonal = jnp.diagonal(self._capacitance_tril(), axis1=-2, axis2=-1)
        logs = jnp.sum(jnp.log(diagonal), axis=-1)
        return logs + 0.5 * jnp.sum(jnp.log(self._cov_diag), axis=-1)

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]` in nats."""
        value = self._event(value)
        ndim = max(value.ndim, self._loc.ndim)
        centred = align(value, ndim) - align(self._loc, ndim)
        # whitened by the independent part, whose variances may have no representable square
        root = jnp.sqrt(align(self._cov_diag, ndim))
        white, factor = centred / root, align(self._cov_factor, ndim + 1) / root[..., None]
        tril = align(self._capacitance_tril(), ndim + 1)

        def residual(factors: Array) -> Array:
            return white - jnp.sum(factor * factors[..., None, :], axis=-1)

        def projected(rest: Array) -> Array:
            return jnp.sum(factor * rest[..., None], axis=-2)

        factors = _solve_square(tril, projected(white))
        factors = factors + _solve_square(tril, projected(residual(factors)) - factors)  # refined
        square = jnp.sum(residual(factors) ** 2, axis=-1) + jnp.sum(factors**2, axis=-1)
        constant = 0.5 * centred.shape[-1] * math.log(2 * math.pi)
        return -0.5 * square - align(self._half_log_det(), ndim - 1) - constant

    def _sample_n(self, key: Key, n: int) -> Array:
        factor_key, noise_key = jax.random.split(key)
        rank, dtype = self._cov_factor.shape[-1], self._loc.dtype
        common = normal_noise(factor_key, (n, *self.batch_shape, rank), dtype)
        noise = normal_noise(noise_key, (n, *self._loc.shape), dtype)
        common = jnp.einsum("...ij,n...j->n...i", self._cov_factor, common)
        return self._loc[None] + common + jnp.sqrt(self._cov_diag)[None] * noise

    def mean(self) -> Array:
        """Returns loc `[*batch, D]`."""
        return self._loc

    def mode(self) -> Array:
        """Returns loc `[*batch, D]`."""
        return self._loc

    def median(self) -> Array:
        """Returns loc `[*batch, D]`."""
        return self._loc

    def variance(self) -> Array:
        """Returns the diagonal of the covariance `[*batch, D]`."""
        return jnp.sum(self._cov_factor**2, axis=-1) + self._cov_diag

    def covariance(self) -> Array:
        """Returns W W^T + diag(d) `[*batch, D, D]`."""
        eye = jnp.eye(self._loc.shape[-1], dtype=self._loc.dtype)
        outer = self._cov_factor @ jnp.swapaxes(self._cov_factor, -1, -2)
        return outer + align(eye, outer.ndim) * self._cov_diag[..., None]

    def entropy(self) -> Array:
        """Returns D (1 + log 2 pi) / 2 + log|Sigma| / 2, `[*batch]`."""
        size = self._loc.shape[-1]
        return 0.5 * size * (1.0 + math.log(2 * math.pi)) + self._half_log_det()

    def full(self) -> MultivariateNormal:
        """Returns the same distribution with its Cholesky factor."""
        return MultivariateNormal(self._loc, self.scale_tril)


def _solve_square(tril: Array, right: Array) -> Array:
    """Solves L L^T m = right for vectors `[..., R]`."""
    z = solve_lower(tril, right[..., None])
    turned = jnp.swapaxes(tril, -1, -2)[..., ::-1, ::-1]
    return solve_lower(turned, z[..., ::-1, :])[..., ::-1, 0]
