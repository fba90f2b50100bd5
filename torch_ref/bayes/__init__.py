"""Twins of `jaxprob.bayes`."""

from torch_ref.bayes.deep_ensemble import DeepEnsemble
from torch_ref.bayes.dense_variational import BayesianMLP, DenseVariational, VariationalLayers
from torch_ref.bayes.dropout import DropoutModel, MCDropout
from torch_ref.bayes.elbo import negative_elbo
from torch_ref.bayes.gaussian_posterior import GaussianPosterior
from torch_ref.bayes.log_joint import log_joint
from torch_ref.bayes.prediction import predict
from torch_ref.bayes.step_sizes import CyclicalStepSize, PolynomialStepSize
from torch_ref.bayes.stochastic_gradient import SGHMC, SGLD, minibatch_log_joint
from torch_ref.bayes.swag import SWAG, snapshots, snapshots_of

__all__ = [
    "SGHMC",
    "SGLD",
    "SWAG",
    "BayesianMLP",
    "CyclicalStepSize",
    "DeepEnsemble",
    "DenseVariational",
    "DropoutModel",
    "GaussianPosterior",
    "MCDropout",
    "PolynomialStepSize",
    "VariationalLayers",
    "log_joint",
    "minibatch_log_joint",
    "negative_elbo",
    "predict",
    "snapshots",
    "snapshots_of",
]
