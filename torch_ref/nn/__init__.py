"""Twins of `jaxprob.nn`."""

from torch_ref.nn.mlp import MLP
from torch_ref.nn.standardize import Standardize

__all__ = ["MLP", "Standardize"]
