"""Kullback-Leibler divergences that torch lacks or gets wrong at the edges.

Importing this module registers them with `torch.distributions.kl_divergence`; pairs of torch's own
families that are right there (Laplace, Gumbel, Poisson, ...) are torch's.

Twin of `jaxprob/distributions/divergence.py`.
"""

import math

import torch
from torch import Tensor
from torch.distributions.kl import register_kl

from torch_ref.distributions.bernoulli import Bernoulli
from torch_ref.distributions.bessel import log_i0e, resultant
from torch_ref.distributions.beta import Beta
from torch_ref.distributions.binomial import Binomial, NegativeBinomial
from torch_ref.distributions.categorical import Categorical, ClassProbabilities, OneHotCategorical
from torch_ref.distributions.counts import Geometric, Poisson
from torch_ref.distributions.deterministic import Deterministic
from torch_ref.distributions.dirichlet import Dirichlet
from torch_ref.distributions.gamma import Gamma, InverseGamma
from torch_ref.distributions.independent import Independent
from torch_ref.distributions.location_scale import Cauchy, Gumbel, Logistic
from torch_ref.distributions.logits import LogitsOrProbs
from torch_ref.distributions.low_rank_multivariate_normal import LowRankMultivariateNormal
from torch_ref.distributions.multinomial import Multinomial
from torch_ref.distributions.multivariate_normal import MultivariateNormal
from torch_ref.distributions.multivariate_normal_diag import MultivariateNormalDiag
from torch_ref.distributions.normal import Normal
from torch_ref.distributions.positive import Exponential, HalfNormal, LogNormal, Weibull
from torch_ref.distributions.special import deviance, digamma_minus_log
from torch_ref.distributions.student_t import StudentT
from torch_ref.distributions.summation import relative_entropy_of_counts
from torch_ref.distributions.von_mises import VonMises

__all__ = ["monte_carlo_kl"]

EULER = 0.57721566490153286


def monte_carlo_kl(p, q, generator: torch.Generator | None = None, num_samples: int = 1000):
    """Estimates KL(p || q) from draws of p; returns the estimate and its standard error."""
    with torch.random.fork_rng(enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(generator.initial_seed())
        draws = p.sample((num_samples,))
    ratio = p.log_prob(draws) - q.log_prob(draws)
    return ratio.mean(0), ratio.std(0) / math.sqrt(num_samples)


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio = p.scale / q.scale
    return 0.5 * (ratio.square() - 1.0 + ((p.loc - q.loc) / q.scale).square()) - ratio.log()


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    top = (p.scale + q.scale).square() + (p.loc - q.loc).square()
    return (top / (4.0 * p.scale * q.scale)).log()


@register_kl(LogNormal, LogNormal)
def _log_normal(p: LogNormal, q: LogNormal) -> Tensor:
    return _normal(Normal(p.loc, p.scale), Normal(q.loc, q.scale))


def _digamma(z: Tensor) -> Tensor:
    return z.log() + digamma_minus_log(z)


@register_kl(Gamma, Gamma)
@register_kl(InverseGamma, InverseGamma)
def _gamma(p, q) -> Tensor:
    a, b, a_q, b_q = p.concentration, p.rate, q.concentration, q.rate
    gammas = torch.lgamma(a_q) - torch.lgamma(a)
    return (a - a_q) * _digamma(a) + gammas + a_q * (b / b_q).log() + a * (b_q / b - 1.0)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1, keepdim=True)
    constants = torch.lgamma(total.squeeze(-1)) - torch.lgamma(b.sum(-1))
    inner = torch.lgamma(b) - torch.lgamma(a) + (a - b) * (_digamma(a) - _digamma(total))
    return constants + inner.sum(-1)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    both = (torch.stack([d.concentration1, d.concentration0], dim=-1) for d in (p, q))
    return _dirichlet(*(Dirichlet(a) for a in both))


@register_kl(Weibull, Weibull)
def _weibull(p: Weibull, q: Weibull) -> Tensor:
    gradient = q.concentration / p.concentration
    ratio = q.concentration * (p.scale / q.scale).log()
    expected = (ratio + torch.lgamma(1.0 + gradient)).exp()
    return -gradient.log() - ratio + EULER * (gradient - 1.0) + expected - 1.0


@register_kl(VonMises, VonMises)
def _von_mises(p: VonMises, q: VonMises) -> Tensor:
    a = resultant(p.concentration)
    normalisers = log_i0e(q.concentration) - log_i0e(p.concentration)
    aligned = q.concentration * (1.0 - a * (p.loc - q.loc).cos())
    return normalisers + aligned - p.concentration * (1.0 - a)


def _binary(p: LogitsOrProbs, q: LogitsOrProbs) -> Tensor:
    success, failure = torch.broadcast_tensors(p.probs, q.probs)[0], p.failure_probs
    failure = failure.expand(success.shape)
    own = p.log_success(success) + p.log_failure(failure)
    apart = own - q.log_success(success) - q.log_failure(failure)
    # next to each other these cancel; the deviances of both outcomes do not
    close = deviance(success, q.probs) + deviance(failure, q.failure_probs)
    near = (q.probs - success).abs() < 0.1 * torch.minimum(success, failure)
    return torch.where(near, close, apart)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    return _binary(p, q)


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Tensor:
    return _binary(p, q) / p.probs


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    same = p.total_count == q.total_count
    other = torch.zeros_like(p.probs) if bool(same.all()) else relative_entropy_of_counts(p, q)
    other = torch.where(p.total_count > q.total_count, math.inf, other)
    return torch.where(same, p.total_count * _binary(p, q), other)


@register_kl(NegativeBinomial, NegativeBinomial)
def _negative_binomial(p: NegativeBinomial, q: NegativeBinomial) -> Tensor:
    same = p.total_count == q.total_count
    other = torch.zeros_like(p.probs) if bool(same.all()) else relative_entropy_of_counts(p, q)
    return torch.where(same, p.total_count * _binary(p, q) / p.failure_probs, other)


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return deviance(p.rate, q.rate)


def _classes(p: ClassProbabilities, q: ClassProbabilities) -> Tensor:
    probs = p.probs.expand(torch.broadcast_shapes(p.probs.shape, q.probs.shape))
    apart = p.expected_log_prob(probs) - q.expected_log_prob(probs)
    none = probs == 0.0
    near = (none | ((q.probs - probs).abs() < 0.1 * probs)).all(-1)
    return torch.where(near, deviance(probs, q.probs.expand(probs.shape)).sum(-1), apart)


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    return _classes(p, q)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return _classes(p, q)


@register_kl(Multinomial, Multinomial)
def _multinomial(p: Multinomial, q: Multinomial) -> Tensor:
    return torch.where(p.total_count == q.total_count, p.total_count * _classes(p, q), math.inf)


@register_kl(Deterministic, Deterministic)
def _deterministic(p: Deterministic, q: Deterministic) -> Tensor:
    return -q.log_prob(p.loc)


def _to_normal(p, q: Normal) -> Tensor:
    square = (p.variance + (p.mean - q.loc).square()) / q.scale.square()
    return -p.entropy() + 0.5 * math.log(2 * math.pi) + q.scale.log() + 0.5 * square


def _to_exponential(p, q: Exponential) -> Tensor:
    return -p.entropy() - q.rate.log() + q.rate * p.mean


def _to_gamma(p, q: Gamma) -> Tensor:
    a, b = q.concentration, q.rate
    density = a * b.log() - torch.lgamma(a) + (a - 1.0) * _mean_log(p) - b * p.mean
    return -p.entropy() - density


def _mean_log(p) -> Tensor:
    """E log X."""
    if isinstance(p, LogNormal):
        return p.loc
    if isinstance(p, Weibull):
        return p.scale.log() - EULER / p.concentration
    if isinstance(p, InverseGamma):
        return p.rate.log() - _digamma(p.concentration)
    if isinstance(p, Beta):
        return _digamma(p.concentration1) - _digamma(p.concentration1 + p.concentration0)
    return p.scale.log() - 0.5 * (EULER + math.log(2))  # half-normal


for _family in (
    Logistic,
    Gumbel,
    StudentT,
    InverseGamma,
    Weibull,
    LogNormal,
    HalfNormal,
    Gamma,
    Beta,
):
    register_kl(_family, Normal)(_to_normal)
for _family in (LogNormal, InverseGamma, HalfNormal, Weibull, Beta):
    register_kl(_family, Exponential)(_to_exponential)
    register_kl(_family, Gamma)(_to_gamma)


def _as_normal(p: Independent) -> MultivariateNormalDiag:
    inner = p.base_dist
    if not isinstance(inner, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError(
            f"KL of an Independent({type(inner).__name__}) has no closed form."
        )
    return MultivariateNormalDiag(inner.loc, inner.scale)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    inner = torch.distributions.kl_divergence(p.base_dist, q.base_dist)
    return inner.flatten(-p.reinterpreted_batch_ndims).sum(-1)


_NORMALS = (MultivariateNormal, MultivariateNormalDiag, LowRankMultivariateNormal)


def _covariance(p) -> Tensor:
    return p.covariance_matrix if hasattr(p, "covariance_matrix") else p.covariance()


def _any_normal(p, q) -> Tensor:
    full = [torch.distributions.MultivariateNormal(d.loc, _covariance(d)) for d in (p, q)]
    return torch.distributions.kl_divergence(*full)


for _p in _NORMALS:
    for _q in _NORMALS:
        if _p is not _q or _p is MultivariateNormalDiag:
            register_kl(_p, _q)(_any_normal)
for _p in _NORMALS:
    register_kl(Independent, _p)(lambda p, q: _any_normal(_as_normal(p), q))
    register_kl(_p, Independent)(lambda p, q: _any_normal(p, _as_normal(q)))
