"""Checks that a Flax model and a PyTorch module are the same, and says where they are not."""

from jaxprob.interop.parity.check import check_parity
from jaxprob.interop.parity.report import Comparison, Finding, ParityError, ParityReport

__all__ = ["Comparison", "Finding", "ParityError", "ParityReport", "check_parity"]
