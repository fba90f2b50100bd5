"""Posteriors over params pytrees, and the one `predict` that serves them all."""

from jaxprob.bayes.dense_variational import BayesianMLP, DenseVariational, VariationalLayers
from jaxprob.bayes.elbo import negative_elbo
from jaxprob.bayes.gaussian_posterior import GaussianPosterior
from jaxprob.bayes.log_joint import log_joint
from jaxprob.bayes.mcmc import HMC, NUTS, Chains
from jaxprob.bayes.prediction import LazyDraws, predict

__all__ = [
    "HMC",
    "NUTS",
    "BayesianMLP",
    "Chains",
    "DenseVariational",
    "GaussianPosterior",
    "LazyDraws",
    "VariationalLayers",
    "log_joint",
    "negative_elbo",
    "predict",
]
