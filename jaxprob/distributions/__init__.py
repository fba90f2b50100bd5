"""Distributions: distrax's interface, checked, safe under `vmap` and `jit`, with quantiles."""

from jaxprob.distributions import bijections, constraints
from jaxprob.distributions.base import Distribution
from jaxprob.distributions.bernoulli import Bernoulli
from jaxprob.distributions.beta import Beta
from jaxprob.distributions.binomial import Binomial, NegativeBinomial
from jaxprob.distributions.categorical import Categorical, OneHotCategorical
from jaxprob.distributions.check import check_distribution
from jaxprob.distributions.constraints import to_constrained, to_unconstrained
from jaxprob.distributions.convert import convert
from jaxprob.distributions.counts import Geometric, Poisson
from jaxprob.distributions.deterministic import Deterministic
from jaxprob.distributions.dirichlet import Dirichlet
from jaxprob.distributions.divergence import monte_carlo_kl
from jaxprob.distributions.gamma import Gamma, InverseGamma
from jaxprob.distributions.independent import Independent
from jaxprob.distributions.interpolated_quantiles import InterpolatedQuantiles
from jaxprob.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic
from jaxprob.distributions.low_rank_multivariate_normal import LowRankMultivariateNormal
from jaxprob.distributions.mixture import MixtureSameFamily
from jaxprob.distributions.multinomial import Multinomial
from jaxprob.distributions.multivariate_normal import MultivariateNormal
from jaxprob.distributions.multivariate_normal_diag import MultivariateNormalDiag
from jaxprob.distributions.normal import Normal
from jaxprob.distributions.positive import Exponential, HalfNormal, LogNormal, Weibull
from jaxprob.distributions.predictive import Predictive
from jaxprob.distributions.quantized import Quantized
from jaxprob.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from jaxprob.distributions.student_t import StudentT
from jaxprob.distributions.tails import Tails
from jaxprob.distributions.transformed import Transformed
from jaxprob.distributions.uniform import Uniform
from jaxprob.distributions.univariate import Univariate
from jaxprob.distributions.validation import checked, unchecked
from jaxprob.distributions.von_mises import VonMises
from jaxprob.distributions.zero_inflated import ZeroInflated

__all__ = [
    "Bernoulli",
    "Beta",
    "Binomial",
    "Categorical",
    "Cauchy",
    "Deterministic",
    "Dirichlet",
    "Distribution",
    "Exponential",
    "Gamma",
    "Geometric",
    "Gumbel",
    "HalfNormal",
    "Independent",
    "InterpolatedQuantiles",
    "InverseGamma",
    "Laplace",
    "LogNormal",
    "Logistic",
    "LowRankMultivariateNormal",
    "MixtureSameFamily",
    "Multinomial",
    "MultivariateNormal",
    "MultivariateNormalDiag",
    "NegativeBinomial",
    "Normal",
    "OneHotCategorical",
    "Poisson",
    "Predictive",
    "Quantized",
    "RelaxedBernoulli",
    "RelaxedOneHotCategorical",
    "StudentT",
    "Tails",
    "Transformed",
    "Uniform",
    "Univariate",
    "VonMises",
    "Weibull",
    "ZeroInflated",
    "bijections",
    "check_distribution",
    "checked",
    "constraints",
    "convert",
    "monte_carlo_kl",
    "to_constrained",
    "to_unconstrained",
    "unchecked",
]
