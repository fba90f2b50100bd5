"""Twins of `jaxprob.heads`."""

from torch_ref.heads.normal import NormalHead

__all__ = ["NormalHead"]
