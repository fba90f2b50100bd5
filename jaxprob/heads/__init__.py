"""Heads: features in, distribution out. The last layer of every model."""

from jaxprob.heads.bounded import BetaHead
from jaxprob.heads.classes import BernoulliHead, CategoricalHead
from jaxprob.heads.counts import NegativeBinomialHead, PoissonHead
from jaxprob.heads.discretized import DiscretizedLogisticMixtureHead
from jaxprob.heads.heavy_tailed import LaplaceHead, StudentTHead
from jaxprob.heads.mixture import MixtureHead
from jaxprob.heads.multivariate_normal import MultivariateNormalHead
from jaxprob.heads.normal import NormalHead
from jaxprob.heads.positive import GammaHead, LogNormalHead
from jaxprob.heads.quantiles import QuantileHead
from jaxprob.heads.targets import for_target

__all__ = [
    "BernoulliHead",
    "BetaHead",
    "CategoricalHead",
    "DiscretizedLogisticMixtureHead",
    "GammaHead",
    "LaplaceHead",
    "LogNormalHead",
    "MixtureHead",
    "MultivariateNormalHead",
    "NegativeBinomialHead",
    "NormalHead",
    "PoissonHead",
    "QuantileHead",
    "StudentTHead",
    "for_target",
]
