"""Posteriors over params pytrees, and the one `predict` that serves them all."""

from jaxprob.bayes.deep_ensemble import DeepEnsemble
from jaxprob.bayes.dense_variational import (
    BayesianMLP,
    ConvVariational,
    DenseVariational,
)
from jaxprob.bayes.dropout import DropoutModel, MCDropout
from jaxprob.bayes.elbo import negative_elbo
from jaxprob.bayes.gaussian_posterior import GaussianPosterior
from jaxprob.bayes.laplace import Laplace, LaplaceState
from jaxprob.bayes.log_joint import log_joint
from jaxprob.bayes.mcmc import HMC, NUTS, Chains
from jaxprob.bayes.natural_gradient import natural_gradient
from jaxprob.bayes.prediction import LazyDraws, predict
from jaxprob.bayes.step_sizes import CyclicalStepSize, PolynomialStepSize
from jaxprob.bayes.stochastic_gradient import SGHMC, SGLD, minibatch_log_joint
from jaxprob.bayes.streaming import prior_params, update
from jaxprob.bayes.swag import SWAG, snapshots, snapshots_of
from jaxprob.bayes.variational_layers import VariationalLayers

__all__ = [
    "HMC",
    "NUTS",
    "SGHMC",
    "SGLD",
    "SWAG",
    "BayesianMLP",
    "Chains",
    "ConvVariational",
    "CyclicalStepSize",
    "DeepEnsemble",
    "DenseVariational",
    "DropoutModel",
    "GaussianPosterior",
    "Laplace",
    "LaplaceState",
    "LazyDraws",
    "MCDropout",
    "PolynomialStepSize",
    "VariationalLayers",
    "log_joint",
    "minibatch_log_joint",
    "natural_gradient",
    "negative_elbo",
    "predict",
    "prior_params",
    "snapshots",
    "snapshots_of",
    "update",
]
