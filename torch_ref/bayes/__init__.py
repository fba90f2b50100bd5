"""Twins of `jaxprob.bayes`."""

from torch_ref.bayes.deep_ensemble import DeepEnsemble
from torch_ref.bayes.dense_variational import (
    BayesianMLP,
    ConvVariational,
    DenseVariational,
)
from torch_ref.bayes.dropout import DropoutModel, MCDropout
from torch_ref.bayes.elbo import negative_elbo
from torch_ref.bayes.gaussian_posterior import GaussianPosterior
from torch_ref.bayes.laplace import Laplace, LaplaceState
from torch_ref.bayes.log_joint import log_joint
from torch_ref.bayes.natural_gradient import natural_gradient
from torch_ref.bayes.prediction import LazyDraws, predict
from torch_ref.bayes.step_sizes import CyclicalStepSize, PolynomialStepSize
from torch_ref.bayes.stochastic_gradient import SGHMC, SGLD, minibatch_log_joint
from torch_ref.bayes.streaming import prior_params, update
from torch_ref.bayes.swag import SWAG, snapshots, snapshots_of
from torch_ref.bayes.variational_layers import VariationalLayers

__all__ = [
    "SGHMC",
    "SGLD",
    "SWAG",
    "BayesianMLP",
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
