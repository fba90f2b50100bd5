"""Special functions in the form in which densities need them: without cancellation.

A density such as the gamma's is `exp` of a sum of terms that grow with the parameters and cancel:
log Gamma(1e6) is 1.3e7, the log-density it belongs to is about 1. In float32 nothing is left of it.
Here the growing parts are cancelled on paper, after Stirling:

    log Gamma(z) = (z - 1/2) log z - z + log(2 pi) / 2 + mu(z)         mu: Binet's function
    D(x, m)      = x log(x / m) + m - x                                D: deviance
    log Poisson(k; m) = -D(k, m) - mu(k) - log(2 pi k) / 2             and so on for all its kin

mu(z) is 1 / z times a smooth function of 1 / z, for which one Chebyshev series serves all z >= 1.
Everything differentiates to any order by ordinary autodiff, but for the two rules written out.

Twin: `torch_ref/distributions/special.py`. Source: C. Loader, "Fast and accurate computation of
binomial probabilities" (2000); DLMF 5.11 for mu.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr as _log_ndtr

from jaxprob.types import Array

__all__ = [
    "binet",
    "binet_above_one",
    "binet_bregman",
    "binet_derivative",
    "binet_derivative_above_one",
    "deviance",
    "digamma",
    "digamma_minus_log",
    "expm1",
    "expm1_minus",
    "log1mexp",
    "log1p",
    "log1p_minus",
    "log1p_minus_near",
    "log1p_square",
    "log_gamma",
    "log_ndtr",
    "log_ratio",
    "log_ratio_minus",
    "log_sigmoid",
    "log_sum",
    "log_sum_weighted",
    "minus_deviance",
    "poisson_log_density",
    "recomputed",
    "scale_by_log",
    "standardize",
    "times_power",
]

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

# Chebyshev coefficients of z mu(z) in 2 / z - 1, for z >= 1, from mpmath at 40 digits.
_BINET = (
    0.0824391166213757987, -0.00115860143339533167, -0.000242063386494365041,
    0.0000230964818052665523, 2.81265383064208571e-7, -4.27198236917967449e-7,
    6.75379598980075543e-8, -1.67422169092832213e-9, -1.90488231836993441e-9,
    5.6160823985667171e-10, -7.49788176528266194e-11, -4.86269697542891656e-12,
    5.72287845476819497e-12, -1.72249151301688841e-12, 2.71305527263320948e-13,
    1.28489260248382067e-14, -2.50969601159710882e-14, 9.64154560209850488e-15,
    -2.1911895633949409e-15, 1.71103332319623808e-16, 1.15807376769558599e-16,
    -7.18679829595259273e-17,
)  # fmt: skip


# The same of z^2 mu'(z).
_BINET_GRADIENT = (
    -0.0808650495011010865, 0.00314813424054942448, 0.000588867987264396106,
    -0.0000911292086081659128, 2.10051476209292199e-6, 1.79804872974209505e-6,
    -4.2745089227567187e-7, 3.52694968648110767e-8, 8.5415471087949588e-9,
    -4.10952783768107718e-9, 8.31745202010200343e-10, -4.16487619251816362e-11,
    -3.70494626278784903e-11, 1.66780591279053833e-11, -3.90985019990788214e-12,
    3.39617673389666968e-13, 1.68746088047511954e-13, -1.03637504290420467e-13,
    3.26600939696386255e-14, -5.89264775311202312e-15, -2.70240948097933563e-16,
    7.24354304872278478e-16, -3.44022455544754481e-16, 1.0331964965866085e-16,
    -1.75225286337365511e-17,
)  # fmt: skip


def is_double(x: Array) -> bool:
    """Returns whether the numbers have more than 30 binary digits."""
    return jnp.finfo(x.dtype).nmant > 30


def recomputed(x: Array) -> Array:
    """Returns x, but the lowest finite number for -inf; for quotients and logarithms used twice.

    XLA leaves a loop wherever the result of an expensive operation is used twice, and writes it to
    memory. A cheap operation on top of it is repeated instead, and the loop goes on.
    """
    return jnp.maximum(x, jnp.finfo(x.dtype).min)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _chebyshev(coefficients: Sequence[float], x: Array) -> Array:
    """Clenshaw's sum of c_j T_j(x)."""
    later, latest = jnp.zeros_like(x), jnp.zeros_like(x)
    for c in coefficients[:0:-1]:
        later, latest = latest, 2.0 * x * latest - later + c
    return x * latest - later + coefficients[0]


@_chebyshev.defjvp
def _chebyshev_jvp(coefficients, primals, tangents):
    # The series of the derivative: the pass back then need not keep every step of the sum.
    (x,), (dot,) = primals, tangents
    gradient = tuple(float(c) for c in np.polynomial.chebyshev.chebder(coefficients))
    return _chebyshev(coefficients, x), dot * _chebyshev(gradient, x)


def binet_above_one(z: Array) -> Array:
    """Returns mu(z) for z >= 1, with the series' gradients: for densities that state theirs."""
    terms = _BINET if is_double(z) else _BINET[:9]
    return _chebyshev(terms, recomputed(2.0 / z) - 1.0) / z


@jax.custom_jvp
def binet(z: Array) -> Array:
    """Returns mu(z) = log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, for z > 0."""
    small = z < 1.0
    mu = binet_above_one(jnp.where(small, z + 1.0, z))
    # mu(z) = mu(z + 1) + (z + 1/2) log(1 + 1/z) - 1
    return mu + jnp.where(small, (z + 0.5) * jnp.log1p(1.0 / z) - 1.0, 0.0)


@binet.defjvp
def _binet_jvp(primals, tangents):
    (z,), (dot,) = primals, tangents
    return binet(z), dot * binet_derivative(z)


def binet_derivative_above_one(z: Array) -> Array:
    """Returns mu'(z) for z >= 1."""
    terms = _BINET_GRADIENT if is_double(z) else _BINET_GRADIENT[:10]
    return _chebyshev(terms, recomputed(2.0 / z) - 1.0) / z / z


def binet_derivative(z: Array) -> Array:
    """Returns mu'(z)."""
    small = z < 1.0
    gradient = binet_derivative_above_one(jnp.where(small, z + 1.0, z))
    below = jnp.where(small, z, 0.5)
    shift = jnp.log1p(1.0 / below) - 0.5 / below - 0.5 / (1.0 + below)
    return gradient + jnp.where(small, shift, 0.0)


def binet_bregman(z: Array, to: Array) -> Array:
    """Returns mu(to) - mu(z) - (to - z) mu'(z), in which small steps do not cancel."""
    step, slope = to - z, binet_derivative(z)
    near = jnp.abs(step) < 5e-4 * z
    inner = jnp.where(near, step, 0.0)
    # step times the mean of mu' - mu'(z), by Gauss-Legendre's rule of two nodes
    low, high = (binet_derivative(z + inner * (0.5 + side / math.sqrt(12))) for side in (-1, 1))
    close = inner * (0.5 * (low - slope) + 0.5 * (high - slope))
    return jnp.where(near, close, binet(to) - binet(z) - step * slope)


def digamma_minus_log(z: Array) -> Array:
    """Returns psi(z) - log z, which is -1 / (2 z) for large z."""
    return binet_derivative(z) - 0.5 / z


def digamma(z: Array) -> Array:
    """Returns psi(z) = d log Gamma(z) / dz, for z > 0."""
    return jnp.log(z) + digamma_minus_log(z)


def log_gamma(z: Array) -> Array:
    """Returns log Gamma(z) for z > 0, to a few ulp of max(1, |log Gamma(z)|)."""
    return (z - 0.5) * jnp.log(z) - z + HALF_LOG_TWO_PI + binet(z)


@jax.custom_jvp
def log1p_minus_near(w: Array) -> Array:
    """Returns log(1 + w) - w for -0.5 < w < 1 without cancellation; -w^2 / 2 to first order."""
    r = recomputed(w / (2.0 + w))
    # log(1 + w) = 2 atanh(r), and 2 r - w = -r w
    square, odd = r * r, jnp.zeros_like(r)
    for k in range(33 if is_double(w) else 15, 1, -2):
        odd = odd * square + 1.0 / k
    return r * (2.0 * square * odd - w)


@log1p_minus_near.defjvp
def _log1p_minus_near_jvp(primals, tangents):
    (w,), (dot,) = primals, tangents
    return log1p_minus_near(w), dot * (-w / (1.0 + w))


def log1p_minus(w: Array) -> Array:
    """Returns log(1 + w) - w without cancellation near 0; -w^2 / 2 to first order."""
    near = (w > -0.5) & (w < 1.0)
    far = jnp.where(near, 1.0, w)
    return jnp.where(near, log1p_minus_near(jnp.where(near, w, 0.0)), jnp.log1p(far) - far)


def log1p(w: Array) -> Array:
    """Returns log(1 + w); XLA's own loses two digits around |w| = 0.01 in float64."""
    if not is_double(w):
        return jnp.log1p(w)
    near = jnp.abs(w) < 0.5
    inner = jnp.where(near, w, 0.0)
    return jnp.where(near, inner + log1p_minus(inner), jnp.log1p(jnp.where(near, 1.0, w)))


def expm1_minus(y: Array) -> Array:
    """Returns exp(y) - 1 - y without cancellation near 0; y^2 / 2 to first order."""
    near = jnp.abs(y) < 0.7
    v = jnp.where(near, y, 0.0)
    series = jnp.ones_like(v)
    for k in range(17 if is_double(y) else 10, 2, -1):
        series = 1.0 + series * v / k
    far = jnp.where(near, 1.0, y)
    return jnp.where(near, 0.5 * v * v * series, jnp.expm1(far) - far)


def log1mexp(x: Array) -> Array:
    """Returns log(1 - exp(x)) for x <= 0; the gradient at 0 is that of a limit, -inf."""
    near = x > -math.log(2)
    close = jnp.where(near, x, -1.0)
    return jnp.where(near, jnp.log(-jnp.expm1(close)), log1p(-jnp.exp(jnp.where(near, -1.0, x))))


@jax.custom_jvp
def standardize(x: Array, loc: Array, scale: Array) -> Array:
    """Returns (x - loc) / scale, with gradients that need no square of the scale."""
    return recomputed((x - loc) / scale)


@standardize.defjvp
def _standardize_jvp(primals, tangents):
    x, loc, scale = primals
    dx, dloc, dscale = tangents
    z = standardize(x, loc, scale)
    held = jnp.minimum(z, jnp.finfo(z.dtype).max)  # an infinite one times 0 would be NaN
    return z, (dx - dloc - held * dscale) / scale


@jax.custom_jvp
def log_sigmoid(x: Array) -> Array:
    """Returns log(1 / (1 + exp(-x)))."""
    return jnp.minimum(x, 0.0) - log1p(jnp.exp(-jnp.abs(x)))


@log_sigmoid.defjvp
def _log_sigmoid_jvp(primals, tangents):
    (x,), (dot,) = primals, tangents
    return log_sigmoid(x), dot * jax.nn.sigmoid(-x)


@jax.custom_jvp
def log_ndtr(z: Array) -> Array:
    """Returns log P(Z <= z) for standard normal Z; 3 terms, as by default, leave 4e-9 at -20."""
    gone = z < -0.5 * math.sqrt(float(jnp.finfo(z.dtype).max))  # whose square would overflow
    return jnp.where(gone, -jnp.inf, _log_ndtr(jnp.where(gone, 0.0, z), series_order=10))


@log_ndtr.defjvp
def _log_ndtr_jvp(primals, tangents):
    (z,), (dot,) = primals, tangents
    value = log_ndtr(z)
    # phi(z) / Phi(z): far out by Laplace's continued fraction, where the logarithms would cancel
    far = z < -5.0
    size = jnp.where(far, -z, 5.0)
    fraction = size
    for k in range(40 if is_double(z) else 16, 0, -1):
        fraction = size + k / fraction
    near = jnp.exp(-0.5 * z * z - HALF_LOG_TWO_PI - jnp.where(far, 0.0, value))
    return value, dot * jnp.where(value == -jnp.inf, 0.0, jnp.where(far, fraction, near))


@jax.custom_jvp
def expm1(x: Array) -> Array:
    """Returns exp(x) - 1; the gradient of jnp's, value + 1, has no digits left at large -x."""
    return jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals, tangents):
    (x,), (dot,) = primals, tangents
    return expm1(x), dot * jnp.exp(x)


@jax.custom_jvp
def log_ratio(x: Array, scale: Array) -> Array:
    """Returns log(x / scale), also where the ratio is not representable."""
    ratio = x / scale
    limits = jnp.finfo(ratio.dtype)
    usable = (ratio > limits.tiny) & (ratio < limits.max)
    apart = jnp.log(jnp.where(usable, 1.0, x)) - jnp.log(scale)
    return jnp.where(usable, jnp.log(jnp.where(usable, ratio, 1.0)), apart)


@log_ratio.defjvp
def _log_ratio_jvp(primals, tangents):
    (x, scale), (dx, dscale) = primals, tangents
    return log_ratio(x, scale), dx / x - dscale / scale


def log1p_square(z: Array) -> Array:
    """Returns log(1 + z^2), also where z^2 overflows."""
    size = jnp.abs(z)
    far = size > 2.0 / jnp.finfo(z.dtype).eps  # here log(1 + z^2) = 2 log |z| = 2 log(1 + |z|)
    return jnp.where(far, 2.0, 1.0) * log1p(jnp.where(far, size, z * z))


def deviance(x: Array, m: Array, log_m: Array | None = None) -> Array:
    """Returns D(x, m) = x log(x / m) + m - x >= 0, for x >= 0 and m >= 0.

    D(0, m) = m; D(x, 0) is infinite for x > 0, unless `log_m` says that m has underflowed.
    """
    zero = x <= 0.0
    safe = jnp.where(zero, 1.0, x)
    ratio = (m - safe) / safe
    near = (ratio > -0.5) & (ratio < 1.0)
    close = -safe * log1p_minus_near(jnp.where(near, ratio, 0.0))
    far = jnp.where(near | zero, safe, m)
    log_far = jnp.log(far) if log_m is None else jnp.where(near | zero, 0.0, log_m)
    apart = safe * (jnp.log(safe) - log_far) + (far - safe)
    return jnp.where(zero, m, jnp.where(near, close, apart))


def log_ratio_minus(to: Array, start: Array) -> Array:
    """Returns log(to / start) - (to - start) / start <= 0, without cancellation near equality."""
    w = (to - start) / start
    near = (w > -0.5) & (w < 1.0)
    log = jnp.log(jnp.where(near, 1.0, to)) - jnp.log(jnp.where(near, 1.0, start))
    return jnp.where(near, log1p_minus_near(jnp.where(near, w, 0.0)), log - w)


def times_power(power: Array, x: Array) -> Array:
    """Returns power / x, the gradient of power * log(x), with 0 / 0 = 0."""
    neither = (power == 0.0) & (x == 0.0)
    return jnp.where(neither, 0.0, power / jnp.where(neither, 1.0, x))


def minus_deviance(x: Array, gap: Array, log_ratio: Array) -> Array:
    """Returns -D(x, m) for x > 0, where gap = m - x and log_ratio = log(m / x) are at hand.

    The gradients are those of the formula that holds: for densities that state their own.
    """
    ratio = recomputed(gap / x)
    near = (ratio > -0.5) & (ratio < 1.0)
    return jnp.where(near, x * log1p_minus_near(ratio), x * log_ratio - gap)


def poisson_log_density(x: Array, rate: Array) -> Array:
    """Returns log(rate^x exp(-rate) / x!) for whole x >= 0, in Loader's form."""
    log_x = recomputed(jnp.log(x))
    saddle = minus_deviance(x, rate - x, jnp.log(rate) - log_x)
    inner = saddle - binet_above_one(x) - 0.5 * log_x - HALF_LOG_TWO_PI
    return jnp.where(x == 0.0, -rate, inner)


def scale_by_log(times: Array, value: Array) -> Array:
    """Returns times * log(value), with 0 log 0 = 0 and without NaN in its gradients."""
    none = times == 0.0
    finite = jnp.where(none, 1.0, value)
    log = jnp.log(jnp.where(value == 0.0, 1.0, value))
    # towards `times` the gradient is log(value); at times = 0 the value below is 0 times it
    return jnp.where(none, times * log, times * jnp.log(finite))


def log_sum(values: Array, axis: int = -1) -> Array:
    """Returns log sum exp over one axis; where all are -inf the gradient is 0, not NaN."""
    peak = jax.lax.stop_gradient(jnp.max(values, axis=axis, keepdims=True))
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    total = jnp.sum(jnp.exp(values - peak), axis=axis)
    empty = total == 0.0
    log = jnp.log(jnp.where(empty, 1.0, total))
    return jnp.where(empty, -jnp.inf, log) + jnp.squeeze(peak, axis)


def log_sum_weighted(values: Array, weights: Array, axis: int = -1) -> Array:
    """Returns log sum_k w_k exp(v_k), with finite gradients where a weight is 0.

    A term of weight 0 adds nothing where its value is infinite too.
    """
    values = jnp.where((weights == 0.0) & (values == jnp.inf), -jnp.inf, values)
    peak = jax.lax.stop_gradient(jnp.max(values, axis=axis, keepdims=True))
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    total = jnp.sum(weights * jnp.exp(values - peak), axis=axis)
    empty = total == 0.0
    log = jnp.log(jnp.where(empty, 1.0, total))
    return jnp.where(empty, -jnp.inf, log) + jnp.squeeze(peak, axis)
