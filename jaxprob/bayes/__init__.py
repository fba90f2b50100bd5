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
from jaxprob.bayes.prediction import predict
from jaxprob.bayes.step_sizes import CyclicalStepSize, PolynomialStepSize
from jaxprob.bayes.stochastic_gradient import SGHMC, SGLD, minibatch_log_joint
from jaxprob.bayes.streaming import prior_params, update
from jaxprob.bayes.swag import SWAG, snapshots, snapshots_of
from jaxprob.bayes.variational_layers import VariationalLayers

__all__ = [
    "SGHMC",
    "SGLD",
    "SWAG",
    "HMC",
    "NUTS",
    "BayesianMLP",
    "Chains",
    "ConvVariational",
    "CyclicalStepSize",
    "DeepEnsemble",
    "DenseVariational",
    "DropoutModel",
    "GaussianPosterior",
    "MCDropout",
    "PolynomialStepSize",
    "Laplace",
    "LaplaceState",
    "VariationalLayers",
    "log_joint",
    "natural_gradient",
    "minibatch_log_joint",
    "negative_elbo",
    "predict",
    "snapshots",
    "snapshots_of",
    "prior_params",
    "update",
]
