"""Linen layers without probability."""

from jaxprob.nn.mlp import MLP
from jaxprob.nn.standardize import Standardize

__all__ = ["MLP", "Standardize"]
