"""Twins of `jaxprob.bayes`."""

from torch_ref.bayes.dense_variational import BayesianMLP, DenseVariational, VariationalLayers
from torch_ref.bayes.elbo import negative_elbo
from torch_ref.bayes.gaussian_posterior import GaussianPosterior
from torch_ref.bayes.log_joint import log_joint
from torch_ref.bayes.prediction import LazyDraws, predict

__all__ = [
    "BayesianMLP",
    "DenseVariational",
    "GaussianPosterior",
    "LazyDraws",
    "VariationalLayers",
    "log_joint",
    "negative_elbo",
    "predict",
]
