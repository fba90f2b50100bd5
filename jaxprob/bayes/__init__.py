"""Posteriors over params pytrees, and the one `predict` that serves them all."""

from jaxprob.bayes.dense_variational import BayesianMLP, DenseVariational, VariationalLayers
from jaxprob.bayes.elbo import negative_elbo
from jaxprob.bayes.gaussian_posterior import GaussianPosterior
from jaxprob.bayes.prediction import predict

__all__ = [
    "BayesianMLP",
    "DenseVariational",
    "GaussianPosterior",
    "VariationalLayers",
    "negative_elbo",
    "predict",
]
