"""Kullback-Leibler divergences KL(p || q) in closed form, and an estimator for all other pairs.

Importing this module registers the pairs, so that `p.kl_divergence(q)` finds them. Beyond the pairs
of one family, E_p[log q] is known for every p whose mean and variance (q normal), mean (q
exponential) or mean and E log X (q gamma) are, given the entropy of p:

    KL(p || q) = -H(p) - E_p[log q(X)]

Twin: `torch_ref/distributions/divergence.py`. Source: Gil, Alajaji & Linder, "Renyi divergence
measures for commonly used univariate continuous distributions" (2013); Chyzak & Nielsen (2019) for
Cauchy.
"""

import math
from collections.abc import Callable

import distrax
import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates.jax.distributions import RegisterKL

from jaxprob.distributions.bernoulli import Bernoulli
from jaxprob.distributions.bessel import log_i0_bregman, mean_resultant
from jaxprob.distributions.beta import Beta
from jaxprob.distributions.binomial import Binomial, NegativeBinomial
from jaxprob.distributions.categorical import Categorical, ClassProbabilities, OneHotCategorical
from jaxprob.distributions.convert import convert
from jaxprob.distributions.counts import Geometric, Poisson
from jaxprob.distributions.deterministic import Deterministic
from jaxprob.distributions.dirichlet import Dirichlet, dirichlet_kl
from jaxprob.distributions.gamma import Gamma, InverseGamma, gamma_kl
from jaxprob.distributions.independent import Independent
from jaxprob.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic, extreme_value_kl
from jaxprob.distributions.logits import LogitsOrProbs
from jaxprob.distributions.low_rank_multivariate_normal import LowRankMultivariateNormal
from jaxprob.distributions.multinomial import Multinomial
from jaxprob.distributions.multivariate_normal import MultivariateNormal
from jaxprob.distributions.multivariate_normal_diag import MultivariateNormalDiag
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.positive import Exponential, HalfNormal, LogNormal, Weibull
from jaxprob.distributions.special import (
    deviance,
    digamma_minus_log,
    expm1_minus,
    log1p_minus_near,
    log_gamma,
    log_ratio,
    log_ratio_minus,
)
from jaxprob.distributions.student_t import StudentT
from jaxprob.distributions.summation import relative_entropy_of_counts
from jaxprob.distributions.uniform import Uniform
from jaxprob.distributions.validation import align
from jaxprob.distributions.von_mises import VonMises
from jaxprob.requirements import require_count
from jaxprob.types import Array, Key

__all__ = ["monte_carlo_kl"]


def monte_carlo_kl(
    p: distrax.Distribution, q: distrax.Distribution, key: Key, num_samples: int = 1000
) -> tuple[Array, Array]:
    """Estimates KL(p || q) by averaging log p(x) - log q(x) over draws of p.

    Args:
      p: Distribution to draw from.
      q: Distribution to compare with; its support must hold that of p.
      key: Key of the draws.
      num_samples: Number of draws, at least 2.

    Returns:
      The estimate and its standard error, both `[*batch]`, in nats.
    """
    require_count("monte_carlo_kl", least=2, num_samples=num_samples)
    draws, log_p = p.sample_and_log_prob(seed=key, sample_shape=(num_samples,))
    ratio = jnp.subtract(log_p, q.log_prob(draws))
    return jnp.mean(ratio, axis=0), jnp.std(ratio, axis=0, ddof=1) / math.sqrt(num_samples)


def _register(p_class: type, q_class: type) -> Callable:
    """Registers a formula whose arguments have batch axes aligned from the right."""

    def decorate(formula: Callable) -> Callable:
        def divergence(p, q, *_, **__) -> Array:
            return formula(p, q)

        RegisterKL(p_class, q_class)(divergence)
        return formula

    return decorate


def _pair(p: Array, q: Array) -> tuple[Array, Array]:
    ndim = max(p.ndim, q.ndim)
    return align(p, ndim), align(q, ndim)


def _aligned(p, q) -> list[Array]:
    """The parameters of p and then of q, with the same number of axes."""
    arrays = [*p._parameters(), *q._parameters()]
    ndim = max(a.ndim for a in arrays)
    return [align(a, ndim) for a in arrays]


@_register(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Array:
    loc_p, scale_p, loc_q, scale_q = _aligned(p, q)
    ratio = scale_p / scale_q
    # (r^2 - 1) / 2 - log r, without cancellation near r = 1; far from it, without log(1 + w)
    square = (ratio - 1.0) * (ratio + 1.0)
    near = (square > -0.5) & (square < 1.0)
    far = jnp.where(near, 1.0, ratio)
    spread = jnp.where(
        near,
        -0.5 * log1p_minus_near(jnp.where(near, square, 0.0)),
        0.5 * (far - 1.0) * (far + 1.0) - log_ratio(scale_p, scale_q),
    )
    return spread + 0.5 * ((loc_p - loc_q) / scale_q) ** 2


@_register(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Array:
    loc_p, scale_p, loc_q, scale_q = _aligned(p, q)
    gap = jnp.abs(loc_p - loc_q) / scale_p
    # r (g + e^-g) - 1 - log r with r = s_p / s_q
    return scale_p / scale_q * expm1_minus(-gap) - log_ratio_minus(scale_p, scale_q)


@_register(Laplace, Normal)
def _laplace_normal(p: Laplace, q: Normal) -> Array:
    return _to_normal(p, q)


@_register(Normal, Laplace)
def _normal_laplace(p: Normal, q: Laplace) -> Array:
    from jax.scipy.special import erf

    loc_p, scale_p, loc_q, scale_q = _aligned(p, q)
    z = (loc_p - loc_q) / scale_p
    density = math.sqrt(2 / math.pi) * jnp.exp(-0.5 * z**2)
    distance = scale_p * (density + z * erf(z / math.sqrt(2)))
    return distance / scale_q + jnp.log(2.0 * scale_q) - _with_ndim(p.entropy(), loc_q)


@_register(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Array:
    loc_p, scale_p, loc_q, scale_q = _aligned(p, q)
    gap, total = (loc_p - loc_q) / scale_q, scale_p / scale_q
    # log(((s_p + s_q)^2 + gap^2) / (4 s_p s_q)), 1 split off
    excess = ((total - 1.0) ** 2 + gap**2) / (4.0 * total)
    lost = ~(total > jnp.finfo(total.dtype).tiny)  # then s_p is nothing beside s_q
    apart = jnp.log1p(gap**2) - math.log(4) - log_ratio(scale_p, scale_q)
    return jnp.where(lost, apart, jnp.log1p(jnp.where(lost, 1.0, excess)))


@_register(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Array:
    loc_p, scale_p, loc_q, scale_q = _aligned(p, q)
    return extreme_value_kl(scale_p, scale_q, (loc_p - loc_q) / scale_q)


@_register(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Array:
    return _normal(Normal(p.loc, p.scale), Normal(q.loc, q.scale))


@_register(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Array:
    return _normal(Normal(0.0, p.scale), Normal(0.0, q.scale))


@_register(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Array:
    return gamma_kl(*_aligned(p, q))


@_register(InverseGamma, InverseGamma)
def _inverse_gamma(p: InverseGamma, q: InverseGamma) -> Array:
    return gamma_kl(*_aligned(p, q))


@_register(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Array:
    rate_p, rate_q = _aligned(p, q)
    return -log_ratio_minus(rate_q, rate_p)


@_register(Exponential, Gamma)
def _exponential_gamma(p: Exponential, q: Gamma) -> Array:
    return _gamma(Gamma(1.0, p.rate), q)


@_register(Gamma, Exponential)
def _gamma_exponential(p: Gamma, q: Exponential) -> Array:
    return _gamma(p, Gamma(1.0, q.rate))


@_register(Weibull, Weibull)
def _weibull(p: Weibull, q: Weibull) -> Array:
    scale_p, k_p, scale_q, k_q = _aligned(p, q)
    step = (scale_p - scale_q) / scale_q
    near = jnp.abs(step) < 0.5
    log = jnp.where(near, jnp.log1p(jnp.where(near, step, 0.0)), log_ratio(scale_p, scale_q))
    return extreme_value_kl(k_q, k_p, -k_q * log)  # -log X is Gumbel with scale 1 / k


@_register(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Array:
    a_p, b_p, a_q, b_q = _aligned(p, q)
    return dirichlet_kl(jnp.stack([a_p, b_p], axis=-1), jnp.stack([a_q, b_q], axis=-1))


@_register(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Array:
    return dirichlet_kl(*_pair(p.concentration, q.concentration))


@_register(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Array:
    low_p, high_p, low_q, high_q = _aligned(p, q)
    inside = (low_q <= low_p) & (high_p <= high_q)
    return jnp.where(inside, jnp.log(high_q - low_q) - jnp.log(high_p - low_p), jnp.inf)


@_register(Beta, Uniform)
def _beta_uniform(p: Beta, q: Uniform) -> Array:
    a, _, low, high = _aligned(p, q)
    inside = (low <= 0.0) & (high >= 1.0)
    return jnp.where(inside, jnp.log(high - low) - _with_ndim(p.entropy(), a), jnp.inf)


@_register(VonMises, VonMises)
def _von_mises(p: VonMises, q: VonMises) -> Array:
    loc_p, k_p, loc_q, k_q = _aligned(p, q)
    # E cos(X - loc_q) = A(k_p) cos(loc_p - loc_q)
    turned = 2.0 * jnp.sin(0.5 * (loc_p - loc_q)) ** 2
    return log_i0_bregman(k_p, k_q) + k_q * mean_resultant(k_p) * turned


@_register(Deterministic, Deterministic)
def _deterministic(p: Deterministic, q: Deterministic) -> Array:
    loc_p, _, _, loc_q, atol, rtol = _aligned(p, q)
    return -Deterministic(loc_q, atol, rtol).log_prob(loc_p)


@_register(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Array:
    return deviance(*_aligned(p, q))


def _binary(p: LogitsOrProbs, q: LogitsOrProbs) -> Array:
    """KL of two Bernoulli distributions; 0 log 0 = 0."""
    held_p, held_q = _pair(p._parameters()[-1], q._parameters()[-1])
    success, failure, *_ = p._success_terms(held_p)
    with_p = p._times_log_success(success, held_p) + p._times_log_failure(failure, held_p)
    shape = jnp.broadcast_shapes(success.shape, held_q.shape)
    success, failure, held_q = (jnp.broadcast_to(a, shape) for a in (success, failure, held_q))
    with_q = q._times_log_success(success, held_q) + q._times_log_failure(failure, held_q)
    # Next to each other the two sums cancel: there the sum of D(p, q) over both outcomes.
    success_q, failure_q, *_ = q._success_terms(held_q)
    step = jnp.where(success < failure, success_q - success, failure - failure_q)
    near = jnp.abs(step) < 0.1 * jnp.minimum(success, failure)
    step = jnp.where(near, step, 0.0)
    by_success, by_failure = (jnp.where(near, a, 1.0) for a in (success, failure))
    close = -by_success * log1p_minus_near(step / by_success)
    close -= by_failure * log1p_minus_near(-step / by_failure)
    return jnp.where(near, close, with_p - with_q)


_register(Bernoulli, Bernoulli)(_binary)


@_register(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Array:
    binary = _binary(p, q)
    return binary / _with_ndim(p.probs, binary)


@_register(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Array:
    n_p, n_q = _pair(p.total_count, q.total_count)
    others = relative_entropy_of_counts(p, q, unless=n_p >= n_q)
    others = jnp.where(n_p > n_q, jnp.inf, others)  # q lacks outcomes of p
    return jnp.where(n_p == n_q, n_p * _binary(p, q), others)


@_register(NegativeBinomial, NegativeBinomial)
def _negative_binomial(p: NegativeBinomial, q: NegativeBinomial) -> Array:
    n_p, n_q = _pair(p.total_count, q.total_count)
    binary = _binary(p, q)
    # The mean is n p / (1 - p); per outcome of the other kind one Bernoulli divergence over 1 - p.
    failure = _with_ndim(p._failure_probs, binary)
    others = relative_entropy_of_counts(p, q, unless=n_p == n_q)
    return jnp.where(n_p == n_q, n_p * binary / failure, others)


def _classes(p: ClassProbabilities, q: ClassProbabilities) -> Array:
    probs, held = _pair(p.probs, q._held)
    probs = jnp.broadcast_to(probs, jnp.broadcast_shapes(probs.shape, held.shape))
    apart = p._weighted_log_probs(probs) - q._weighted_log_probs(probs)
    # Next to each other the two sums cancel: there the sum of D(p_k, q_k).
    none = probs == 0.0
    step = align(q.probs, probs.ndim) - probs
    near = jnp.all(none | (jnp.abs(step) < 0.1 * probs), axis=-1)
    inner = near[..., None] & ~none
    weight, step = jnp.where(inner, probs, 1.0), jnp.where(near[..., None], step, 0.0)
    close = weight * log1p_minus_near(jnp.where(inner, step, 0.0) / weight)
    return jnp.where(near, jnp.sum(jnp.where(none, step, -close), axis=-1), apart)


_register(Categorical, Categorical)(_classes)
_register(OneHotCategorical, OneHotCategorical)(_classes)


@_register(Multinomial, Multinomial)
def _multinomial(p: Multinomial, q: Multinomial) -> Array:
    n_p, n_q = _pair(p.total_count, q.total_count)
    return jnp.where(n_p == n_q, n_p * _classes(p, q), jnp.inf)


def _to_normal(p, q: Normal) -> Array:
    entropy, mean, variance = p.entropy(), p.mean(), p.variance()
    ndim = max(mean.ndim, q.loc.ndim)
    entropy, mean, variance = (align(a, ndim) for a in (entropy, mean, variance))
    loc, scale = align(q.loc, ndim), align(q.scale, ndim)
    square = (variance + (mean - loc) ** 2) / scale**2
    return -entropy + 0.5 * math.log(2 * math.pi) + jnp.log(scale) + 0.5 * square


def _to_exponential(p, q: Exponential) -> Array:
    entropy, rate = _pair(p.entropy(), q.rate)
    return -entropy - jnp.log(rate) + rate * align(p.mean(), entropy.ndim)


def _to_gamma(p, q: Gamma) -> Array:
    ndim = max(p.mean().ndim, q.rate.ndim)
    entropy, mean, mean_log = (align(a, ndim) for a in (p.entropy(), p.mean(), _mean_log(p)))
    a, b = align(q.concentration, ndim), align(q.rate, ndim)
    return -entropy - a * jnp.log(b) + log_gamma(a) - (a - 1.0) * mean_log + b * mean


def _mean_log(p) -> Array:
    """E log X."""
    if isinstance(p, LogNormal):
        return p.loc
    if isinstance(p, Weibull):
        return jnp.log(p.scale) - np.euler_gamma / p.concentration
    if isinstance(p, InverseGamma):
        a = p.concentration
        return jnp.log(p.rate) - jnp.log(a) - digamma_minus_log(a)
    if isinstance(p, HalfNormal):
        return jnp.log(p.scale) - 0.5 * (np.euler_gamma + math.log(2))
    a, total = p.concentration1, p.concentration1 + p.concentration0
    return jnp.log(a / total) + digamma_minus_log(a) - digamma_minus_log(total)


for _family in (Logistic, Gumbel, StudentT, Gamma, InverseGamma, Exponential, HalfNormal, Weibull,
                LogNormal, Beta, Uniform):  # fmt: skip
    _register(_family, Normal)(_to_normal)
for _family in (LogNormal, InverseGamma, HalfNormal, Weibull, Beta):
    _register(_family, Exponential)(_to_exponential)
    _register(_family, Gamma)(_to_gamma)


def _with_ndim(array: Array, like: Array) -> Array:
    return align(array, max(array.ndim, like.ndim))


def _full(p) -> MultivariateNormal:
    return p if isinstance(p, MultivariateNormal) else MultivariateNormal(p.loc, p.scale_tril)


def _any_normal(p, q) -> Array:
    return _full(p).kl_divergence(_full(q))


@_register(MultivariateNormalDiag, MultivariateNormalDiag)
def _diagonal(p: MultivariateNormalDiag, q: MultivariateNormalDiag) -> Array:
    if p.event_shape != q.event_shape:
        raise ValueError(
            f"KL(p || q): event shapes differ, p has {p.event_shape} and q has {q.event_shape}."
        )
    return jnp.sum(_normal(p.marginal(), q.marginal()), axis=-1)


def _as_normal(p: Independent) -> MultivariateNormalDiag:
    inner = convert(p.distribution)
    if not isinstance(inner, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(f"{inner.name} with {p.event_shape} as event is no normal vector")
    return MultivariateNormalDiag(inner.loc, inner.scale)


_NORMALS = (MultivariateNormal, MultivariateNormalDiag, LowRankMultivariateNormal)
for _p in _NORMALS:
    for _q in _NORMALS:
        if _p is not _q or _p is LowRankMultivariateNormal:  # the others have formulas of their own
            _register(_p, _q)(_any_normal)
    _register(Independent, _p)(lambda p, q: _as_normal(p).kl_divergence(q))
    _register(_p, Independent)(lambda p, q: p.kl_divergence(_as_normal(q)))
