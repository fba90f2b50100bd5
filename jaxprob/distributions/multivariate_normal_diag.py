"""The multivariate normal distribution with independent entries.

    log p(x) = sum_i log Normal(x_i; loc_i, scale_diag_i)

distrax's own keeps bound methods among its fields and cannot leave `jit` (distrax issue 230).

Twin: `torch_ref/distributions/multivariate_normal_diag.py`.
"""

import math

import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.gradients import normal_noise
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.univariate import parameter
from jaxprob.distributions.validation import align, as_parameters
from jaxprob.types import Array, Key, Numbers

__all__ = ["MultivariateNormalDiag"]


class MultivariateNormalDiag(Distribution):
    """Normal distribution over vectors with independent entries.

    Args:
      loc: Mean `[*batch, D]`.
      scale_diag: Standard deviations `[*batch, D]` (> 0). Without one of the two it is 0 or 1, as
        in distrax.
    """

    arg_constraints = {"loc": constraints.real, "scale_diag": constraints.positive}
    reparameterized = True

    def __init__(self, loc: Numbers | None = None, scale_diag: Numbers | None = None):
        super().__init__()
        if loc is None and scale_diag is None:
            raise ValueError("MultivariateNormalDiag: give loc, scale_diag or both; got none.")
        loc = jnp.zeros_like(jnp.asarray(scale_diag)) if loc is None else loc
        scale_diag = jnp.ones_like(jnp.asarray(loc)) if scale_diag is None else scale_diag
        self._loc, self._scale_diag = as_parameters(
            "MultivariateNormalDiag", self.arg_constraints, loc=loc, scale_diag=scale_diag
        )
        if self._loc.ndim < 1:
            raise ValueError(
                "MultivariateNormalDiag: loc and scale_diag are numbers; expected vectors "
                "[..., D]. For a scalar event take Normal."
            )

    loc = parameter("loc", "Mean `[*batch, D]`.")
    scale_diag = parameter("scale_diag", "Standard deviations `[*batch, D]`.")

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
        """Cholesky factor `[*batch, D, D]`."""
        eye = jnp.eye(self._loc.shape[-1], dtype=self._loc.dtype)
        return align(eye, self._loc.ndim + 1) * self._scale_diag[..., None]

    def marginal(self) -> Normal:
        """Returns the D marginal normals."""
        return Normal(self._loc, self._scale_diag)

    def log_prob(self, value: Numbers) -> Array:
        """Returns log p(value) `[*batch]` in nats."""
        return jnp.sum(self.marginal().log_prob(self._event(value)), axis=-1)

    def cdf(self, value: Numbers) -> Array:
        """Returns P(X_i <= value_i for all i) `[*batch]`."""
        return jnp.exp(self.log_cdf(value))

    def log_cdf(self, value: Numbers) -> Array:
        """Returns log P(X_i <= value_i for all i) `[*batch]`."""
        return jnp.sum(self.marginal().log_cdf(self._event(value)), axis=-1)

    def survival_function(self, value: Numbers) -> Array:
        """Returns P(X_i > value_i for all i) `[*batch]`."""
        return jnp.exp(self.log_survival_function(value))

    def log_survival_function(self, value: Numbers) -> Array:
        """Returns log P(X_i > value_i for all i) `[*batch]`."""
        return jnp.sum(self.marginal().log_survival_function(self._event(value)), axis=-1)

    def _sample_n(self, key: Key, n: int) -> Array:
        eps = normal_noise(key, (n, *self._loc.shape), self._loc.dtype)
        return self._loc[None] + self._scale_diag[None] * eps

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
        """Returns scale_diag^2 `[*batch, D]`."""
        return self._scale_diag**2

    def stddev(self) -> Array:
        """Returns scale_diag `[*batch, D]`."""
        return self._scale_diag

    def covariance(self) -> Array:
        """Returns the diagonal matrix of the variances `[*batch, D, D]`."""
        return self.scale_tril**2

    def entropy(self) -> Array:
        """Returns D (1 + log 2 pi) / 2 + sum_i log scale_i, `[*batch]`."""
        size = self._loc.shape[-1]
        constant = 0.5 * size * (1.0 + math.log(2 * math.pi))
        return constant + jnp.sum(jnp.log(self._scale_diag), axis=-1)
