"""Heads: features in, distribution out. The last layer of every model."""

from jaxprob.heads.normal import NormalHead

__all__ = ["NormalHead"]
