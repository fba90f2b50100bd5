"""Twins of `jaxprob.heads`."""

from torch_ref.heads.bounded import BetaHead
from torch_ref.heads.classes import BernoulliHead, CategoricalHead
from torch_ref.heads.counts import NegativeBinomialHead, PoissonHead
from torch_ref.heads.discretized import DiscretizedLogisticMixtureHead
from torch_ref.heads.heavy_tailed import LaplaceHead, StudentTHead
from torch_ref.heads.mixture import MixtureHead
from torch_ref.heads.multivariate_normal import MultivariateNormalHead
from torch_ref.heads.normal import NormalHead
from torch_ref.heads.positive import GammaHead, LogNormalHead
from torch_ref.heads.quantiles import QuantileHead
from torch_ref.heads.targets import for_target

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
