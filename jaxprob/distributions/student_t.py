"""Student's t distribution.

    log p(x) = log Gamma((df + 1) / 2) - log Gamma(df / 2) - log(pi df) / 2 - log scale
               - (df + 1) / 2 log(1 + z^2 / df),   z = (x - loc) / scale

With a = df / 2 the constant is a (log(1 + 1 / df) - 1 / df) + mu(a + 1/2) - mu(a) - log(2 pi) / 2,
in which nothing cancels: at df = 1e7 the two log-gammas agree in all digits of float32. The tails
are those of a beta variable: P(|T| > |z|) = I_y(df / 2, 1 / 2), y = df / (df + z^2).

Twin: `torch_ref/distributions/student_t.py`. Source: Johnson, Kotz & Balakrishnan, "Continuous
Univariate Distributions" vol. 2, 2nd ed., ch. 28.
"""

import math

import jax
import jax.numpy as jnp

from jaxprob.distributions import constraints
from jaxprob.distributions.gamma_draws import log_gamma_draws
from jaxprob.distributions.gradients import normal_noise
from jaxprob.distributions.special import (
    binet,
    binet_derivative,
    digamma_minus_log,
    log1p,
    log1p_minus,
    log1p_minus_near,
    log1p_square,
    recomputed,
    standardize,
)
from jaxprob.distributions.tails import Tails, beta_tails, lower_half
from jaxprob.distributions.univariate import Univariate, parameter
from jaxprob.types import Array, Key, Numbers

__all__ = ["StudentT"]


class StudentT(Univariate):
    """Student's t distribution, moved by `loc` and stretched by `scale`.

    Args:
      df: Degrees of freedom (> 0); the smaller, the heavier the tails.
      loc: Median and mode.
      scale: Scale (> 0); not the standard deviation, which is scale sqrt(df / (df - 2)).
    """

    arg_constraints = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    reparameterized = True

    def __init__(self, df: Numbers, loc: Numbers = 0.0, scale: Numbers = 1.0):
        self._set(df=df, loc=loc, scale=scale)

    df = parameter("df", "Degrees of freedom `[*batch]`.")
    loc = parameter("loc", "Location `[*batch]`.")
    scale = parameter("scale", "Scale `[*batch]`.")

    def _inner_point(self, *parameters: Array) -> Array:
        return parameters[1]

    def _log_density(self, x: Array, df: Array, loc: Array, scale: Array) -> Array:
        z = standardize(x, loc, scale)
        ratio = jnp.abs(z) / jnp.sqrt(df)
        log_term = recomputed(log1p_square(ratio))  # log(1 + z^2 / df)
        # -(df + 1) / 2 of it, and near 0 without the cancellation against z^2 / 2
        near = -0.5 * (z * z + df * log1p_minus_near(ratio * ratio) + log_term)
        tail = -0.5 * (df + 1.0) * log_term
        return _log_constant(df) - jnp.log(scale) + jnp.where(ratio > 0.7, tail, near)

    def _gradients(self, x: Array, df: Array, loc: Array, scale: Array) -> tuple[Array, ...]:
        z = standardize(x, loc, scale)
        ratio = jnp.abs(z) / jnp.sqrt(df)
        far = ratio > 0.7  # in terms of 1 / ratio there, whose square may overflow
        w = jnp.where(far, 0.0, ratio) ** 2
        inverse = jnp.where(far, 1.0 / jnp.where(far, ratio, 1.0), 0.0) ** 2
        share = jnp.where(far, 1.0, w) / (1.0 + jnp.where(far, inverse, w))  # z^2 / (df + z^2)
        rest = jnp.where(far, inverse, 1.0) / (1.0 + jnp.where(far, inverse, w))
        to_z = -(df + 1.0) * jnp.where(far, share / jnp.where(far, z, 1.0), z * (rest / df))
        # log(1 + w) - w / (1 + w)
        curve = jnp.where(
            far, log1p_square(jnp.where(far, ratio, 1.0)) - share, log1p_minus_near(w) + w * share
        )
        to_df = _log_constant_gradient(df) - 0.5 * curve + 0.5 * share / df
        return to_z / scale, to_df, -to_z / scale, (df * share - rest) / scale

    def _tails(self, x: Array, df: Array, loc: Array, scale: Array) -> Tails:
        z = standardize(x, loc, scale)
        whole = z / jnp.sqrt(df)
        far = jnp.abs(whole) > 1.0 / jnp.finfo(z.dtype).eps
        ratio = jnp.where(far, 1.0, whole)
        flip = jnp.abs(ratio) > 1.0
        inverse = 1.0 / jnp.where(flip, ratio, 1.0) ** 2
        square = jnp.where(flip, 0.0, ratio) ** 2
        y = jnp.where(flip, inverse / (1.0 + inverse), 1.0 / (1.0 + square))  # df / (df + z^2)
        rest = jnp.where(flip, 1.0 / (1.0 + inverse), square / (1.0 + square))
        half = jnp.full_like(df, 0.5)
        # At the centre the beta variable is at its end, where it has no gradient to give.
        central = z * z * (1.0 + 1.0 / df) < 0.25 * jnp.finfo(z.dtype).eps
        y, rest = jnp.where(central, 0.25, y), jnp.where(central, 0.75, rest)
        both = beta_tails(0.5 * df, half, y, rest).log_lower()
        # in the form for df + 2, since for small df that for df has two infinities
        constant, beyond = _log_constant(jnp.stack([df, df + 2.0]))
        line = 2.0 * jnp.exp(constant) * jnp.where(central, lower_half(z), 0.0)
        inner = jnp.where(central, jnp.log1p(line), both) - math.log(2)
        # P(T > z) = p(0) sqrt(df) (z^2 / df)^(-df / 2) / df, where 1 + z^2 / df = z^2 / df
        log_whole = jnp.log(jnp.where(far, jnp.abs(z), 1.0)) - 0.5 * jnp.log(df)
        outer = beyond + 0.5 * jnp.log(df + 2.0) - jnp.log(df + 1.0) - df * log_whole
        return Tails(jnp.where(far, outer, inner), z <= 0.0)

    def _drifts(self, x: Array, df: Array, loc: Array, scale: Array) -> tuple[Array | None, ...]:
        return None, jnp.ones_like(loc), standardize(x, loc, scale)

    def _quantile(self, lower: Array, upper: Array, df: Array, loc: Array, scale: Array) -> Array:
        below = lower < 0.5
        tail = jnp.where(below, lower, upper)
        centred = tail == 0.5
        zero, one = jnp.zeros_like(df), jnp.ones_like(df)
        # The lower half of the standard family; the median is exact by symmetry.
        safe = jnp.where(centred, 0.25, tail)
        z = super()._quantile(safe, 1.0 - safe, df, zero, one)
        z = jnp.where(centred, 0.0 * z, z)
        gradient = jnp.exp(-_log_constant(df))  # 1 / p(0), so that dz / dq is right at the median
        z = z + jnp.where(centred, gradient * (tail - jax.lax.stop_gradient(tail)), 0.0)
        return loc + scale * jnp.where(below, z, -z)

    def _sample_n(self, key: Key, n: int) -> Array:
        normal_key, gamma_key = jax.random.split(key)
        shape = (n, *self.batch_shape)
        normal = normal_noise(normal_key, shape, self._loc.dtype)
        half = jnp.broadcast_to(0.5 * self._df, shape)
        log_gamma = log_gamma_draws(gamma_key, half)
        z = normal * jnp.exp(0.5 * (jnp.log(half) - log_gamma))
        return self._loc[None] + self._scale[None] * z

    def mean(self) -> Array:
        """Returns loc where df > 1, else NaN."""
        return jnp.where(self._df > 1.0, self._loc, jnp.nan)

    def variance(self) -> Array:
        """Returns scale^2 df / (df - 2); infinite for df in (1, 2], NaN below."""
        safe = jnp.where(self._df > 2.0, self._df, 3.0)
        finite = self._scale**2 * safe / (safe - 2.0)
        infinite = jnp.where(self._df > 1.0, jnp.inf, jnp.nan)
        return jnp.where(self._df > 2.0, finite, infinite)

    def mode(self) -> Array:
        """Returns loc."""
        return self._loc

    def median(self) -> Array:
        """Returns loc."""
        return self._loc

    def entropy(self) -> Array:
        """Returns (df + 1) / 2 (psi((df + 1) / 2) - psi(df / 2)) less the log-constant."""
        a = 0.5 * self._df
        digammas = log1p(0.5 / a) + digamma_minus_log(a + 0.5) - digamma_minus_log(a)
        return (a + 0.5) * digammas - _log_constant(self._df) + jnp.log(self._scale)


def _log_constant(df: Array) -> Array:
    """Returns log p(0) of the standard family."""
    a = 0.5 * df
    root = -0.5 * math.log(2 * math.pi)
    return a * log1p_minus(0.5 / a) + binet(a + 0.5) - binet(a) + root


def _log_constant_gradient(df: Array) -> Array:
    """Returns the derivative of `_log_constant`."""
    a = 0.5 * df
    u = 0.5 / a
    return 0.5 * (
        log1p_minus(u) + u * (u / (1.0 + u)) + binet_derivative(a + 0.5) - binet_derivative(a)
    )
