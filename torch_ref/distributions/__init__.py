"""Twins of `jaxprob.distributions`: torch.distributions with quantiles, right in log space."""

from torch_ref.distributions import bijections, constraints
from torch_ref.distributions.base import Distribution
from torch_ref.distributions.bernoulli import Bernoulli
from torch_ref.distributions.beta import Beta
from torch_ref.distributions.binomial import Binomial, NegativeBinomial
from torch_ref.distributions.categorical import Categorical, OneHotCategorical
from torch_ref.distributions.constraints import to_constrained, to_unconstrained
from torch_ref.distributions.counts import Geometric, Poisson
from torch_ref.distributions.deterministic import Deterministic
from torch_ref.distributions.dirichlet import Dirichlet
from torch_ref.distributions.divergence import monte_carlo_kl
from torch_ref.distributions.gamma import Gamma, InverseGamma
from torch_ref.distributions.independent import Independent
from torch_ref.distributions.interpolated_quantiles import InterpolatedQuantiles
from torch_ref.distributions.location_scale import Cauchy, Gumbel, Laplace, Logistic
from torch_ref.distributions.low_rank_multivariate_normal import LowRankMultivariateNormal
from torch_ref.distributions.mixture import MixtureSameFamily
from torch_ref.distributions.multinomial import Multinomial
from torch_ref.distributions.multivariate_normal import MultivariateNormal
from torch_ref.distributions.multivariate_normal_diag import MultivariateNormalDiag
from torch_ref.distributions.normal import Normal
from torch_ref.distributions.positive import Exponential, HalfNormal, LogNormal, Weibull
from torch_ref.distributions.predictive import Predictive
from torch_ref.distributions.quantized import Quantized
from torch_ref.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from torch_ref.distributions.student_t import StudentT
from torch_ref.distributions.transformed import Transformed
from torch_ref.distributions.uniform import Uniform
from torch_ref.distributions.univariate import Univariate
from torch_ref.distributions.von_mises import VonMises
from torch_ref.distributions.zero_inflated import ZeroInflated

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
    "Transformed",
    "Uniform",
    "Univariate",
    "VonMises",
    "Weibull",
    "ZeroInflated",
    "bijections",
    "constraints",
    "monte_carlo_kl",
    "to_constrained",
    "to_unconstrained",
]
